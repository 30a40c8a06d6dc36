"""The check of a store: what was committed is kept, and each number is claimed once."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuneflow.errors import listed
from tuneflow.history.trial import Report, Trial
from tuneflow.store.store import Store
from tuneflow.testing.common import require


def check_store(make: Callable[[Path], Store], path: Path) -> None:
    """Check that a store keeps what was committed, claims each number once, and refuses writes to trials of others.

    A configuration that has to be the only one of its kind is entered by one owner alone.

    Args:
        make: opens the store at a path, or makes it there.
        path: a path where nothing exists yet.

    Raises:
        AssertionError: a rule is broken; the message names it.
    """
    one, other = make(path), make(path)
    missing = [
        name for name, verb in vars(Store).items() if name[0] != "_" and callable(verb) and not hasattr(one, name)
    ]
    require(not missing, "store", f"it has to have all verbs of a Store, and lacks {listed(missing)}")
    require(one.describe({"seed": 1}) == {"seed": 1}, "store", "describe gives back what was described")
    require(other.describe({"seed": 2}) == {"seed": 1}, "store", "the first description has to stay")
    require(one.recall("a") is None, "store", "recall gave what was never remembered")
    kept = [one.remember("a", {"b": [1, None]}), other.remember("a", {"b": 2}), other.recall("a")]
    require(kept == [{"b": [1, None]}] * 3, "store", f"what was remembered first has to stay, got {kept}")
    numbers = [one.claim(math.inf), other.claim(math.inf), one.claim(math.inf), other.claim(3)]
    require(numbers == [0, 1, 2, None], "store", f"claims gave {numbers}, not 0, 1, 2, None")
    seen = tuple(Report(e, {"loss": 1.0 / e, "acc": math.inf}, {"loss": 0.1}, 0.25, 1e9 + e, e) for e in (1, 2, 3))
    best: dict[str, Any] = {"metrics": seen[2].metrics, "errors": seen[2].errors, "epochs": 3, "seconds": 0.75}
    done = Trial(0, {"x": 0.1, "y": {"a": {}}}, "DONE", reports=seen, **best)
    failed = Trial(1, {"x": 0.2, "y": None}, "FAILED", "reason", detail="detail", parent=(0, 1), repeats=0, until=3,
                   extends=True)  # fmt: skip
    one.put(Trial(0, done.config))
    for report in seen:
        one.report(0, report)
    one.put(done)
    one.put(Trial(2, {"x": 0.3}))
    for report in seen:
        one.report(2, report)
    one.forget(2, after=2)
    require(one.commit() == [], "store", "the owner's trials were called lost")
    other.put(failed)
    other.put(Trial(2, {"x": 9.9}, "DONE"))
    require(other.commit() == [2], "store", "a write to another owner's trial was taken")
    one.enqueue({"x": 0.4})
    one.enqueue({"x": 0.5})
    queued = [one.next_queued(3), one.next_queued(3), other.next_queued(4), other.next_queued(5)]
    ordered = queued[0] in ({"x": 0.4}, None) and queued[2:] in ([{"x": 0.5}, None], [None, None])
    require(ordered, "store", f"queue: {queued}")
    again = make(path).changes()
    order = [t.number for t in again]
    require(order == [0, 2, 1], "store", f"after opening again there are, the latest change last, {again}")
    again.sort(key=lambda trial: trial.number)
    live = Trial(2, {"x": 0.3}, reports=seen[:2])
    for got, due in ((_reported(again[0]), _reported(done)), (_reported(again[2]), _reported(live))):
        require(got == due, "store", f"reports have to come back with their `at` and `worker`, of {due} came {got}")
    require(_facts(again[0]) == _facts(done), "store", f"{done} came back as {again[0]}")
    require(_facts(again[1]) == _facts(failed), "store", f"{failed} came back as {again[1]}")
    require(again[2].config == live.config, "store", f"{live} came back as {again[2]}")
    one.note("c", {"d": 1})
    one.note("c", {"d": 2})
    one.put(Trial(2, {"x": 0.3}, "PAUSED", reports=seen[:2]))
    one.commit()
    require(other.recall("c") == {"d": 2}, "store", f"what was noted last has to count, got {other.recall('c')}")
    exchanged = [other.exchange("c", {"d": 2}, {"d": 3}), one.exchange("c", {"d": 2}, {"d": 4}), one.recall("c")]
    require(exchanged == [True, False, {"d": 3}], "store", f"the first exchange has to count alone, got {exchanged}")
    one.remember("c 1", {"e": 4})
    noted = list(other.recall_all("c").items())
    require(noted == [("c", {"d": 3}), ("c 1", {"e": 4})], "store", f"keys that begin with c were listed as {noted}")
    held = [one.hold(), other.hold(), one.hold()]
    one.let_go()
    held.append(other.hold())
    require(held == [True, False, True, True], "store", f"one may hold until it lets go, got {held}")
    other.let_go()
    require(one.waiting() == [], "store", f"nobody is elsewhere, and was said to be: {one.waiting()}")
    taken = [other.take(2), one.take(2)]
    require(taken == [True, False], "store", f"a paused trial was taken by {taken}, not by the first alone")
    _check_entering(one, other)
    seized = [one.seize(2), one.seize(2)]
    require(seized == [True, False], "store", f"another owner's running trial was taken by {seized}, not once")
    other.put(Trial(2, {"x": 0.3}, "DONE"))
    require(other.commit() == [2], "store", "a trial that was taken from its owner was written by it")
    _check_giving_back(one, other)
    one.close()
    other.close()


def _check_entering(one: Store, other: Store) -> None:
    """Check that a configuration enters once, whoever enters it, and that forks and repetitions do not count."""
    numbers = [store.claim(math.inf) or 0 for store in (one, other, one, other)]
    config, forked = {"x": 0.6, "y": "new"}, {"x": 0.2, "y": None}  # of trial 1, which has a parent
    entered = [store.enter(Trial(n, config), True) for store, n in zip((one, other), numbers[:2], strict=True)]
    require(entered == [True, False], "store", f"a configuration has to enter once, it was entered by {entered}")
    again = other.enter(Trial(numbers[1], config, repeats=numbers[0]), False)
    require(again, "store", "a configuration was refused that may be repeated")
    require(one.enter(Trial(numbers[2], forked), True), "store", "a configuration was refused that only a fork has")
    same = other.enter(Trial(numbers[3], forked), True)
    require(not same, "store", "a configuration has to enter once, it was entered beside the one of another owner")
    seen = {trial.number for trial in other.changes()}
    require({numbers[0], numbers[2]} <= seen, "store", f"an entered trial has to be seen by others, they saw {seen}")


def _check_giving_back(one: Store, other: Store) -> None:
    """Check that a number that is given back is the next one to be claimed, once, and by whoever asks first."""
    numbers = [store.claim(math.inf) or 0 for store in (one, other, one)]
    other.release(numbers[0])  # which is not its own
    one.release(numbers[0])
    again = [store.claim(math.inf) for store in (other, one)]
    due = [numbers[0], numbers[2] + 1]
    require(again == due, "store", f"of {numbers} the first was given back, and claims gave {again}, not {due}")


def _facts(trial: Trial) -> list[Any]:
    names = ("number", "config", "status", "reason", "detail", "epochs", "seconds", "parent", "repeats", "until",
             "extends")  # fmt: skip
    found = [getattr(trial, name) for name in names]
    return [*found, dict(trial.metrics), dict(trial.errors), _reported(trial)]


def _reported(trial: Trial) -> list[Any]:
    """Return the reports of a trial with when and where they were trained, which their equality leaves out."""
    return [(report, report.at, report.worker) for report in trial.reports]
