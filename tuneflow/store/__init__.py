"""Stores: where trials, reports and states are kept."""
