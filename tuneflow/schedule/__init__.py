"""Schedulers: who trains next, and how far."""
