"""The dry run: what would fail in training is refused before trial 0."""
