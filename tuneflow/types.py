"""Types that plug-ins are written against: what is trained, its state, an epoch's report, a study's history."""

from tuneflow.history.history import History
from tuneflow.history.trial import Report
from tuneflow.train.job import Job, TrainState

__all__ = ["History", "Job", "Report", "TrainState"]
