"""Conformance checks for searchers, schedulers, trainers, executors and stores of your own.

Each raises AssertionError with the rule that was broken; tuneflow's own pass them.
"""

from tuneflow.testing.check_executor import check_executor
from tuneflow.testing.check_scheduler import check_scheduler
from tuneflow.testing.check_searcher import check_searcher
from tuneflow.testing.check_store import check_store
from tuneflow.testing.check_trainer import check_trainer

__all__ = ["check_executor", "check_scheduler", "check_searcher", "check_store", "check_trainer"]
