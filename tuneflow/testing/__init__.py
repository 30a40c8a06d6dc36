"""Conformance checks for searchers, schedulers, trainers, executors and stores of your own."""

from tuneflow.testing.checks import check_executor, check_scheduler, check_searcher, check_store, check_trainer

__all__ = ["check_executor", "check_scheduler", "check_searcher", "check_store", "check_trainer"]
