"""Searchers: the configuration of each new trial."""
