"""Measurement before training: the probe, its race and its cache."""
