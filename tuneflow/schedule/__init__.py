"""Schedulers decide which trial trains next, and how far; these are the decisions that they return."""

from tuneflow.schedule.scheduler import Continue, Fork, Start, Stop, Wait

__all__ = ["Continue", "Fork", "Start", "Stop", "Wait"]
