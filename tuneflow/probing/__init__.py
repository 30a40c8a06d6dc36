"""Measurements before training: the probe, its race of learning rates, and its cache."""
