"""Replay: slices of a study trained again, and compared with what it has of them."""
