"""Executors: they take slices and give back events."""
