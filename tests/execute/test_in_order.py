"""Under lag= a study is the same for any number of workers, any speed, any kill, whatever its decisions look at."""

import multiprocessing
import os
import signal
from functools import partial
from itertools import count

import numpy as np
import pytest

import tuneflow as tn
from tests.helpers.simulated_clock import Clocked, Curve, uneven
from tests.helpers.worker_training import LastingProcesses
from tuneflow.errors import FingerprintError, StudyError
from tuneflow.execute.choose import executor_for
from tuneflow.execute.executor import Reported
from tuneflow.execute.in_order import AHEAD, OrderedExecutor
from tuneflow.history.trial import Slice
from tuneflow.store.sqlite import SqliteStore
from tuneflow.testing import check_executor

FORKS = "fork" in multiprocessing.get_all_start_methods()
FORK = multiprocessing.get_context("fork") if FORKS else None
needs_fork = pytest.mark.skipif(not FORKS, reason="a process that starts from nothing takes seconds to import torch")

# Python 3.12 and later warn when a process with threads forks; the children need nothing that those threads hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

SPACE = tn.SearchSpace(x=tn.Float(0.0, 1.0))
TRIALS = 24


class Climb(tn.Searcher):
    """Looks at everything there is: scores, and the orders in which trials run, were paused and ended."""

    def suggest(self, space, history, rng):
        scored = [trial for trial in history.trials if np.isfinite(history.cost(trial))]
        if len(scored) < 3:
            return space.sample(rng)
        near = [trials[-1] for trials in (history.running, history.paused, history.finished) if trials]
        best = min(scored, key=history.cost)
        x = 0.7 * best.config["x"] + 0.3 * np.mean([trial.config["x"] for trial in near])
        return {"x": float(np.clip(x + 0.2 * rng.standard_normal(), 0.0, 1.0))}


class Fork(tn.Scheduler):
    """Now and then forks from the third epoch of a trial that runs, is paused or has just ended, however far it is."""

    def next(self, space, history, rng):
        for trial in history.running:
            if trial.epochs == 5 and rng.random() < 0.3:
                return tn.schedule.Stop(trial.number, f"unlucky beside {[t.number for t in history.running]}")
        if history.paused and (len(history.paused) > 3 or not history.remaining):
            return tn.schedule.Continue(history.paused[0].number, history.epochs)
        parents = self.keep(history)
        if parents and rng.random() < 0.5:
            number, epoch = parents[rng.integers(len(parents))]
            x = 0.9 * history.trials[number].config["x"] + 0.1 * rng.random()
            return tn.schedule.Fork(number, epoch, {"x": x}, 6)
        return tn.schedule.Start(int(rng.integers(3, 7)))

    def keep(self, history):
        near = [*history.running, *history.paused, *history.finished[-1:]]
        return [(t.number, 3) for t in near if any(r.epoch == 3 for r in t.reports)]


class Queue(tn.Scheduler):
    """Trains two epochs at a time, what was paused longest ago first; stops what is paused when it has enough."""

    def next(self, space, history, rng):
        paused = history.paused
        if len(history.running) > 3 and len(paused) > 1:
            return tn.schedule.Stop(
                paused[-1].number, f"behind {[t.number for t in paused]} and {[t.number for t in history.running]}"
            )
        if paused and (len(paused) > 2 or not history.remaining):
            return tn.schedule.Continue(paused[0].number, paused[0].epochs + 2)
        return tn.schedule.Start(2)


SCHEDULERS = {
    "queue": Queue,
    "full": tn.Full,
    "halving": partial(tn.Halving, 2),
    "median": partial(tn.Median, 3),
    "fork": Fork,
}
SEARCHERS = {"random": tn.Random, "climb": Climb}
KINDS = [(searcher, scheduler) for searcher in SEARCHERS for scheduler in SCHEDULERS]
kinds = pytest.mark.parametrize(("searcher", "scheduler"), KINDS)


def make(searcher="climb", scheduler="halving", runtime=None, lag=4, **settings):
    settings = {"trainer": Curve(), "minimize": "loss", "seed": 1, "progress": False} | settings
    return tn.Study(
        space=SPACE,
        searcher=SEARCHERS[searcher](),
        scheduler=SCHEDULERS[scheduler]() if isinstance(scheduler, str) else scheduler,
        runtime=runtime or tn.Runtime("cpu", threads=1),
        lag=lag,
        **settings,
    )


def table(study):
    """All there is of a study, but for the seconds: its trials, and the order in which they ended."""
    rows = [
        (
            t.number,
            t.config,
            t.status,
            t.reason,
            dict(t.metrics),
            t.parent,
            [(r.epoch, repr(r.metrics)) for r in t.reports],
        )
        for t in study.trials
    ]
    return rows, [t.number for t in study.history.finished]


def ran(*kind, trials=TRIALS, **settings):
    study = make(*kind, **settings)
    study.run(trials=trials)
    return table(study)


@kinds
@pytest.mark.parametrize("lag", [2, 4, 7])
def test_the_same_study_for_any_number_of_workers_however_fast(searcher, scheduler, lag):
    expected = ran(searcher, scheduler, lag=lag)
    assert len(expected[0]) == TRIALS
    for slots in sorted({1, 2, lag // 2, lag}):
        for seed in range(2):
            runtime = Clocked(slots, uneven(seed, between=10.0))
            assert ran(searcher, scheduler, runtime=runtime, lag=lag) == expected
            assert runtime.made[0].most == slots


@kinds
def test_a_lag_of_one_is_the_order_of_one_worker(searcher, scheduler):
    assert ran(searcher, scheduler, lag=1) == ran(searcher, scheduler, lag=None)


@pytest.mark.parametrize(("searcher", "scheduler"), KINDS[1:])
def test_without_lag_speed_decides(searcher, scheduler):
    runtimes = [Clocked(4, uneven(seed)) for seed in range(5)]
    assert len({repr(ran(searcher, scheduler, runtime=runtime, lag=None)) for runtime in runtimes}) > 1


def test_the_studies_that_are_compared_have_all_kinds_of_trials():
    rows = [row for kind in KINDS for row in ran(*kind)[0]]
    assert {status for _, _, status, *_ in rows} == {"DONE", "STOPPED", "DIVERGED", "FAILED"}
    assert any(parent for *_, parent, _ in rows)
    assert len({len(reports) for *_, reports in rows}) > 5


@pytest.mark.parametrize("lag", [1, 3, 4])
def test_the_nth_epoch_is_settled_when_the_epochs_0_to_n_minus_lag_are_known(lag):
    """Trials of 5 epochs in `lag` places: trial q * lag + r is next after q * 5 turns of all places, and r more."""
    seen = []

    class Spy(tn.Random):
        def suggest(self, space, history, rng):
            seen.append((history.number, sum(t.epochs for t in history.trials), len(history.running)))
            return {"x": 0.5}

    study = make(runtime=Clocked(lag, uneven(0)), lag=lag, trainer=Curve(5))
    study.searcher, study.scheduler = Spy(), tn.Full()
    study.run(trials=4 * lag)
    expected = []
    for number in range(4 * lag):
        full, more = divmod(number, lag)
        told = (full * 5 - 1) * lag + 1 + more if full else 0
        expected.append((number, told, lag - 1 if full else number))
    assert seen == expected


def test_median_stops_trials_before_they_are_trained_to_the_end():
    """Evenly fast, what is trained beyond a stop is what is under way meanwhile."""
    runtime = Clocked(4, uneven(0, between=1.0, within=1.2))
    study = make("random", "median", runtime=runtime)
    study.run(trials=TRIALS)
    stopped = [t for t in study.trials if t.status == "STOPPED"]
    told = sum(t.epochs for t in study.trials)
    assert len(stopped) > 3
    assert told <= len(runtime.made[0].order) <= told + 2 * len(stopped)


@pytest.mark.parametrize(("slots", "lag", "ahead"), [(1, 4, 0), (3, 4, 1), (4, 4, AHEAD)])
def test_no_trial_is_trained_far_ahead_of_its_turn(slots, lag, ahead):
    told, far = {}, []

    def length(trial, epoch):
        return 50.0 if trial == 1 else 1.0

    def look(study, trial):
        told[trial.number] = trial.epochs
        trained = dict(runtime.made[0].order)
        far.append(max(trained[number] - told.get(number, 0) for number in trained))

    runtime = Clocked(slots, length)
    study = make("random", "full", runtime=runtime, lag=lag, trainer=Curve(30), callbacks=[look])
    study.run(trials=4)
    assert max(far) == ahead


def test_one_worker_trains_in_the_order_that_is_told_and_nothing_in_vain():
    runtime = Clocked(1, uneven(0))
    told = []
    study = make(
        "climb", "fork", runtime=runtime, callbacks=[lambda s, t: t.ended or told.append((t.number, t.epochs))]
    )
    study.run(trials=TRIALS)
    failed = [(t.number, t.epochs + 1) for t in study.trials if t.status in ("FAILED", "DIVERGED")]
    assert [each for each in runtime.made[0].order if each not in failed] == [
        each for each in told if each not in failed
    ]


def test_the_ordered_executor_passes():
    check_executor(lambda: OrderedExecutor(executor_for(Clocked(2, uneven(0))), 3, lambda turns: None))


def test_a_state_before_the_start_is_trained_up_to_it_first():
    """Trial 1 has told of 4 epochs, and its last state is that after 2."""
    runtime, trainer, notes = Clocked(2, uneven(0)), Curve(), []
    ordered = OrderedExecutor(executor_for(runtime), 2, notes.append)
    jobs = [tn.types.Job(None, {"x": 0.5}, runtime), tn.types.Job(None, {"x": 0.4}, runtime)]
    states = dict(enumerate((s for s, _ in trainer.advance(jobs[1], trainer.init(jobs[1]), 9)), 1))
    ordered.submit(Slice(0, 0, 3), trainer, jobs[0], None)
    ordered.submit(Slice(1, 4, 6), trainer, jobs[1], states[2])
    assert notes == [[[0, 3]], [[0, 3], [1, 6]]]
    told = []
    while ordered.busy:
        was = ordered.behind
        for event in ordered.wait():
            told.append((event.trial, event.report.epoch if isinstance(event, Reported) else event.status, was))
    again, rest = told[:2], told[2:]
    assert again == [(1, 3, True), (1, 4, True)]
    assert rest == [
        (0, 1, False),
        (1, 5, False),
        (0, 2, False),
        (1, 6, False),
        (1, "DONE", False),
        (0, 3, False),
        (0, "DONE", False),
    ]
    assert notes[-2:] == [[[0, 3]], []]


def test_a_report_has_the_time_when_it_came_in_and_not_that_of_its_turn(monkeypatch):
    now = count(1)
    monkeypatch.setattr("tuneflow.history.trial.time.time", lambda: float(next(now)))
    study = make(runtime=Clocked(2, lambda trial, epoch: 2.5 if trial else 1.0), scheduler="full", lag=2)
    study.run(trials=2)
    by_turn = [report.at for pair in zip(*(trial.reports for trial in study.trials), strict=True) for report in pair]
    assert sorted(by_turn) == [float(n) for n in range(1, len(by_turn) + 1)]
    assert by_turn != sorted(by_turn)


# Workers.


def test_two_workers_decide_as_this_process_does():
    alone = tn.Runtime("cpu", threads=1)
    pool = LastingProcesses(alone, 2)
    shared = tn.Runtime("cpu", threads=1, workers=2, executor=lambda runtime: pool)
    tables = [
        ran("climb", scheduler, runtime=runtime, lag=2, trials=8, trainer=Curve(4))
        for scheduler in ("halving", "fork")
        for runtime in (shared, alone)
    ]
    pool.end()
    assert tables[0] == tables[1]
    assert tables[2] == tables[3]


# Going on.


@kinds
@pytest.mark.parametrize("kept", [True, False])
def test_a_study_that_pauses_now_and_then_is_one_that_does_not(tmp_path, searcher, scheduler, kept):
    expected = ran(searcher, scheduler)
    study = make(searcher, scheduler, folder=tn.Folder(tmp_path if kept else None, checkpoint=1e9))
    for total in count(1, 7):
        study.run(trials=TRIALS, epochs=total)
        if kept and total % 2:
            study = make(searcher, scheduler, folder=tmp_path, runtime=Clocked(total % 4 + 1, uneven(total)))
        if sum(t.epochs for t in study.trials) < total:
            break
    assert table(study) == expected


def test_a_study_whose_training_is_interrupted_goes_on(tmp_path):
    class Interrupted(Curve):
        left = 0

        def advance(self, job, state, until):
            for result in super().advance(job, state, until):
                self.left -= 1
                if not self.left:
                    raise KeyboardInterrupt
                yield result

    expected, trainer = ran(), Interrupted()
    study = make(folder=tmp_path, trainer=trainer, runtime=Clocked(3, uneven(1)))
    for trainer.left in range(1, 12):
        with pytest.raises(KeyboardInterrupt):
            study.run(trials=TRIALS)
    study.run(trials=TRIALS)
    assert table(study) == expected


def test_a_study_whose_callback_fails_goes_on(tmp_path):
    left = 0

    def fail(study, trial):
        nonlocal left
        left -= 1
        if not left:
            raise RuntimeError("a callback's own")

    study = make(folder=tmp_path, callbacks=[fail])
    for left in range(1, 11):  # noqa: B007
        with pytest.raises(RuntimeError, match="own"):
            study.run(trials=TRIALS)
    study.run(trials=TRIALS)
    assert table(study) == ran()


# Kills.


BOUNDARIES = ("claim", "release", "take", "put", "report", "note", "commit", "hold", "let_go", "recover")


def die_at(place):
    """Kill this process at the `place`-th crossing of a boundary: on the way into the store, or out of it."""
    crossed = count()

    def cross():
        if next(crossed) == place:
            os.kill(os.getpid(), signal.SIGKILL)

    def guarded(method):
        def call(*args):
            cross()
            result = method(*args)
            cross()
            return result

        return call

    for name in BOUNDARIES:
        setattr(SqliteStore, name, guarded(getattr(SqliteStore, name)))


def life(folder, place, kind, checkpoint, slots):
    die_at(place)
    runtime = Clocked(slots, uneven(place)) if slots else None
    make(*kind, folder=tn.Folder(folder, checkpoint=checkpoint), runtime=runtime, trainer=Curve(4)).run(trials=10)


def dies(folder, place, kind, checkpoint=1e9, slots=0):
    """Whether a process was killed at that place, and did not get to the end before."""
    process = FORK.Process(target=life, args=(folder, place, kind, checkpoint, slots), daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.fixture
def kills_come_faster_than_epochs(monkeypatch):
    monkeypatch.setattr("tuneflow.study.ledger.TRIES", np.inf)


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("kind", [("climb", scheduler) for scheduler in SCHEDULERS], ids="-".join)
def test_a_kill_anywhere_changes_nothing(tmp_path, kind):
    settings = {"trainer": Curve(4)}
    expected = ran(*kind, trials=10, **settings)
    for place in count(0, 11):
        folder = tmp_path / str(place)
        if not dies(folder, place, kind, checkpoint=[0.0, 1e9][place % 2], slots=place % 5):
            break
        with make(*kind, folder=folder, **settings) as study:
            study.run(trials=10)
            assert table(study) == expected
            study.best.model()  # its state is there
    assert place > 200


@pytest.mark.slow
@needs_fork
@pytest.mark.usefixtures("kills_come_faster_than_epochs")
@pytest.mark.parametrize("kind", [("climb", scheduler) for scheduler in SCHEDULERS], ids="-".join)
def test_a_study_killed_again_and_again_is_one_that_was_not(tmp_path, kind):
    rng, lives = np.random.default_rng(4), 1
    while dies(tmp_path, int(rng.integers(25, 90)), kind, checkpoint=0.0, slots=int(rng.integers(5))):
        lives += 1
        assert lives < 100
    assert lives > 4
    with make(*kind, folder=tmp_path, trainer=Curve(4)) as study:
        assert table(study) == ran(*kind, trials=10, trainer=Curve(4))


class ForkOnce(tn.Scheduler):
    """Two trials, the second one to `second` epochs; then trial 2 goes on from epoch 2 of trial `parent`."""

    def __init__(self, second, parent):
        self.second, self.parent = second, parent

    def next(self, space, history, rng):
        if len(history) < 2:
            return tn.schedule.Start(self.second if history.number else history.epochs)
        second = history.trials[1]
        if len(history) == 2 and (second.ended or second.status == "PAUSED"):
            return tn.schedule.Fork(self.parent, 2, {"x": 0.1}, history.epochs)
        return tn.schedule.Wait()

    def keep(self, history):
        return [(self.parent, 2)] if len(history) < 3 else []


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize(("second", "parent"), [(6, 1), (2, 0), (2, 1)], ids=["ended", "running", "paused"])
@pytest.mark.parametrize("when", ["before the fork", "after its first epoch"])
def test_the_state_that_a_fork_starts_from_outlives_a_kill(tmp_path, second, parent, when):
    def die(study, trial):
        if when != "before the fork" and trial.parent:
            os.kill(os.getpid(), signal.SIGKILL)

    def live(folder=tmp_path, callbacks=(die,)):
        settings = {"lag": 2, "trainer": Curve(6)}
        study = make(
            "random",
            ForkOnce(second, parent),
            folder=tn.Folder(folder, checkpoint=1e9),
            callbacks=callbacks,
            **settings,
        )
        for x in (0.3, 0.8):  # the second one is worse: its states are not kept for its own sake
            if len(study.trials) == 0:
                study.enqueue({"x": x})
        study.run(trials=3)
        return study

    def killed():
        claim = SqliteStore.claim

        def claimed(store, most):
            number = claim(store, most)
            if number == 2 and when == "before the fork":
                os.kill(os.getpid(), signal.SIGKILL)
            return number

        SqliteStore.claim = claimed
        live()

    process = FORK.Process(target=killed, daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert table(live(callbacks=())) == table(live(None, ()))


@pytest.mark.slow
@needs_fork
def test_only_the_trial_whose_turn_it_was_can_have_killed_its_process(tmp_path):
    def trial_3_kills(study, trial):
        if trial.number == 3 and trial.epochs == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def live():
        make("random", "full", folder=tn.Folder(tmp_path, checkpoint=0.0), callbacks=[trial_3_kills]).run(trials=6)

    for _ in range(4):
        process = FORK.Process(target=live, daemon=True)
        process.start()
        process.join(60)
    assert process.exitcode == 0
    with make("random", "full", folder=tmp_path) as study:
        assert [t.status for t in study.trials] == ["DONE", "DONE", "DONE", "FAILED", "DONE", "DONE"]
        assert study.trials[3].reason == "its process died 3 times without finishing an epoch"


# What it does not go with.


def test_one_process_at_a_time(tmp_path):
    running, other = make(folder=tmp_path), make(folder=tmp_path)
    seen = []

    def interfere(study, trial):
        if not seen:
            with pytest.raises(StudyError, match="another process runs this study; with lag= only one may at a time"):
                other.run(trials=TRIALS)
            seen.append(1)

    running.callbacks.append(interfere)
    running.run(trials=4)
    assert seen
    other.run(trials=TRIALS)
    running.run(trials=TRIALS)
    assert table(other) == table(running)
    assert len(other.trials) == TRIALS


def test_another_lag_is_refused(tmp_path):
    with make(folder=tmp_path) as study:
        study.run(trials=2)
    for lag in (3, None):
        with pytest.raises(FingerprintError, match=f"lag was 4, now {lag}"):
            make(folder=tmp_path, lag=lag)


def test_a_folder_from_before_there_was_a_lag_goes_on(tmp_path):
    with make(folder=tmp_path, lag=None) as study:
        study.run(trials=2)
    store = SqliteStore(tmp_path / "study.sqlite")
    store.note("facts", {key: value for key, value in store.describe({}).items() if key != "lag"})
    store.commit()
    store.close()
    with make(folder=tmp_path, lag=None) as study:
        study.run(trials=3)
    with pytest.raises(FingerprintError, match="lag was None, now 4"):
        make(folder=tmp_path)


BAD = {
    "zero": ({"lag": 0}, "lag needs to be a whole number >= 1, got 0; leave it out"),
    "broken": ({"lag": 1.5}, "lag needs to be a whole number >= 1, got 1.5"),
    "text": ({"lag": "2"}, "lag needs to be a whole number >= 1, got '2'"),
    "true": ({"lag": True}, "lag needs to be a whole number >= 1, got True"),
    "idle workers": (
        {"lag": 2, "runtime": tn.Runtime("cpu", workers=3)},
        "lag=2 leaves 1 of 3 workers or lanes idle, as at most 2 are under way; use lag=3 or more",
    ),
    "no trainer": ({"trainer": None}, "lag orders what run trains, and without a trainer there is no run"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_lags_are_named(name):
    settings, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_nobody_asks_for_trials_of_a_study_with_a_lag():
    with pytest.raises(StudyError, match="ask: with lag= the study trains its trials itself"):
        make().ask()
