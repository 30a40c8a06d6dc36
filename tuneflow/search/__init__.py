"""Searchers: where a new trial starts."""
