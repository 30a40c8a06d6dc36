"""Spaces: what may be tuned, and the unit cube it maps to."""
