"""What the status line costs. Run: python tests/benchmarks/status_line.py

Functions and loops of 10 ms per trial, on a real pseudoterminal: the CPU time spent in showing the status and in
printing the trials' lines, as a share of the run's; with the line (TERM=xterm) and with lines only (TERM=dumb), in turn
in one run; median over the repeats. Then the time of one status by the number of trials.
"""

import argparse
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time

import tuneflow as tn
from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Report, Trial, with_reports
from tuneflow.pages.live import LiveDisplay
from tuneflow.pages.run_status import RunStatus
from tuneflow.train.function_trainer import Function

SPACE = tn.SearchSpace(x=tn.Float(-5, 5), y=tn.Float(-5, 5))
TEN_MS = 0.01


def busy(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def function(x, y):
    busy(TEN_MS)
    return x * x + y * y


@tn.loop(epochs=10, check=False)
def loop(config, run):
    for epoch in run.epochs():
        busy(TEN_MS / 10)
        yield {"loss": config["x"] ** 2 + config["y"] ** 2 + 1 / epoch}


class Timed:
    """Adds up the seconds spent in methods of LiveDisplay."""

    def __init__(self):
        self.seconds = {}
        for name in ("update", "print"):
            setattr(LiveDisplay, name, self._timed(name, getattr(LiveDisplay, name)))

    def _timed(self, name, method):
        def run(*arguments, **settings):
            began = time.thread_time()
            method(*arguments, **settings)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.thread_time() - began

        return run


def on_terminal(trainer, trials, kind, timed):
    """Run a study on a pseudoterminal; return its CPU time, the shares of `update` and `print` in it, and bytes."""
    outer, inner = pty.openpty()
    os.environ["TERM"], before, timed.seconds = kind, sys.stderr, {"update": 0.0, "print": 0.0}
    metric = "value" if isinstance(trainer, Function) else "loss"
    with tempfile.TemporaryFile() as written:
        reader = subprocess.Popen(["cat"], stdin=outer, stdout=written, stderr=subprocess.DEVNULL)
        os.close(outer)
        with open(inner, "w", buffering=1) as sys.stderr:
            study = tn.Study(space=SPACE, trainer=trainer, minimize=metric, runtime=tn.Runtime("cpu", threads=1))
            began = time.thread_time()
            study.run(trials=trials)
            whole = time.thread_time() - began
        sys.stderr = before
        reader.wait()
        size = written.seek(0, os.SEEK_END)
    return whole, timed.seconds["update"] / whole, timed.seconds["print"] / whole, size


def history_of(trials):
    history = History(SPACE, Objective((("loss", False),)), epochs=10)
    for number in range(trials):
        reports = [Report(epoch, {"loss": 1 / epoch}) for epoch in range(1, 11)]
        history.record(with_reports(Trial(number, {"x": 0.0, "y": 0.0}, "DONE"), reports, history.objective))
    return history


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    timed = Timed()
    for name, trainer in (("function", Function(function)), ("loop, 10 epochs", loop)):
        for kind in ("xterm", "dumb"):
            runs = [on_terminal(trainer, options.trials, kind, timed) for _ in range(options.repeats)]
            whole, update, printing, size = (statistics.median(column) for column in zip(*runs, strict=True))
            print(
                f"{name:16} {kind:6} {1000 * whole / options.trials:.2f} ms/trial  status {100 * update:.3f} %"
                f"  lines {100 * printing:.3f} %  {size / options.trials:.0f} bytes/trial",
                flush=True,
            )
    for trials in (100, 1000, 10_000):
        status = RunStatus(history_of(trials), 2 * trials)
        times = []
        for _ in range(10):
            began = time.perf_counter()
            status.status()
            times.append(time.perf_counter() - began)
        print(f"{trials:6} trials: a status takes {1000 * statistics.median(times):.2f} ms")


if __name__ == "__main__":
    main()
