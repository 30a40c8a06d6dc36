"""The dry run: mistakes that would fail in training are refused before trial 0, by name and with a way out."""
