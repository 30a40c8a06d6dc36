"""Worker processes train the trials that inline trains, whoever is killed; what cannot be sent is said before."""

import itertools
import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tests.helpers.worker_training import (
    EPOCHS,
    ONE,
    TENSORS,
    TRAINED,
    UNLOADABLE,
    KeepsALock,
    LastingProcesses,
    Locked,
    SlowToLoad,
    bowl,
    checked,
    finish,
    fit,
    inline_metrics,
    net,
    of_trial,
    study,
    table,
    train,
    trainer,
)
from tuneflow.errors import StudyError
from tuneflow.execute.choose import executor_for
from tuneflow.execute.executor import Reported
from tuneflow.execute.head_start import Begun, HeadStart, trains_alike
from tuneflow.execute.inline import InlineExecutor
from tuneflow.execute.processes.executor import ProcessExecutor
from tuneflow.execute.workers import sendable, worker_executor
from tuneflow.execute.workers.messages import ProcessSettings
from tuneflow.execute.workers.pickling import SharedObject, receive, receive_shared, send
from tuneflow.history.trial import Slice
from tuneflow.testing import check_executor
from tuneflow.train.function_trainer import Function

if os.name != "posix":
    pytest.skip("kills, signals and /proc", allow_module_level=True)


@pytest.fixture(scope="module")
def pool():
    pool = LastingProcesses(ONE, 2)
    yield pool
    pool.end()
    assert multiprocessing.active_children() == []


@pytest.fixture
def shared(pool):
    assert pool.busy == 0
    return tn.Runtime("cpu", workers=2, executor=lambda runtime: pool)


# The same trials as inline.


def test_the_processes_executor_passes(pool):
    check_executor(lambda: pool, ONE)


@pytest.mark.parametrize("name", TRAINED)
def test_workers_train_the_trials_that_inline_trains_to_the_last_bit(shared, name):
    ours, theirs = (study(runtime, **TRAINED[name]) for runtime in (shared, ONE))
    with generators_untouched():
        ours.run(trials=5)
    theirs.run(trials=5)
    assert table(ours) == table(theirs)
    one, other = (made.best.model().state_dict() for made in (ours, theirs))
    assert all(torch.equal(one[key], other[key]) for key in other)


def test_a_worker_trains_on_after_the_epochs_that_a_check_has_trained(pool):
    config = {"lr": 0.1}
    job = tn.types.Job(None, config, ONE)
    begun = Begun(config, list(itertools.islice(checked.advance(job, checked.init(job), 3), 2)))
    assert trains_alike(tn.Runtime("cpu", workers=2))
    executor = HeadStart(pool, begun, lambda number: config)
    executor.submit(Slice(0, 0, 3), checked, job, None)
    assert (executor.free, executor.busy) == (1, 1)
    reports = [event.report for event in finish(executor) if isinstance(event, Reported)]
    assert [report.metrics["in a worker"] for report in reports] == [0, 0, 1]
    whole = [report.metrics["loss"] for _, report in checked.advance(job, checked.init(job), 3)]
    assert [report.metrics["loss"] for report in reports] == whole


@pytest.mark.parametrize("searcher", [tn.Grid(3), tn.Sobol(), tn.Random()], ids=repr)
def test_every_searcher_that_looks_at_numbers_only_proposes_the_same(shared, searcher):
    tables = []
    for runtime in (shared, ONE):
        made = study(runtime, tn.SearchSpace(lr=tn.Float(0.01, 0.2)), trainer=fit, searcher=searcher)
        made.run(trials=3)
        tables.append(table(made))
    assert tables[0] == tables[1]


def test_under_halving_a_trial_is_the_same_as_far_as_it_goes(shared):
    made = [
        study(r, tn.SearchSpace(lr=tn.Float(0.01, 0.2)), trainer=fit, scheduler=tn.Halving(2)) for r in (shared, ONE)
    ]
    for each in made:
        each.run(trials=8)
    for (config, _, reports), (wanted, _, expected) in zip(*map(table, made), strict=True):
        shorter = min(len(reports), len(expected))
        assert config == wanted
        assert shorter > 0
        assert reports[:shorter] == expected[:shorter]


def test_a_plain_function_is_minimized_as_inline(shared):
    space = tn.SearchSpace(x=tn.Float(-5, 5), y=tn.Float(-5, 5))
    found = [tn.minimize(bowl, space, trials=20, runtime=runtime) for runtime in (shared, ONE)]
    assert found[0].number == found[1].number
    assert found[0].metrics == found[1].metrics


def test_a_fork_or_a_resumed_trial_goes_on_from_its_state(pool):
    job = tn.types.Job(None, {"lr": 0.1}, ONE, seed=1)
    (state, _), *later = fit.advance(job, fit.init(job), EPOCHS)
    pool.submit(Slice(0, 1, EPOCHS), fit, job, state)
    *reported, last = finish(pool)
    assert [e.report.metrics for e in reported] == [r.metrics for _, r in later]
    assert last.status == "DONE"


# What goes wrong in a worker.


@pytest.mark.slow
def test_a_killed_worker_costs_its_trial_one_epoch_and_the_others_nothing(pool, tmp_path):
    train(pool, 0, kind="kill", epoch=3, marker=str(tmp_path / "killed"))
    train(pool, 1, lr=0.05)
    events = finish(pool)
    assert (tmp_path / "killed").exists()
    for number, config in ((0, {}), (1, {"lr": 0.05})):
        metrics, last = of_trial(events, number)
        assert metrics == inline_metrics(**config)
        assert last.status == "DONE"


@pytest.mark.slow
def test_a_trial_that_kills_every_worker_fails_and_the_others_go_on(shared):
    made = study(
        shared,
        tn.SearchSpace(kind="exit", epoch=tn.Choice([9, 2, 10])),  # this process tries the first one
        trainer=fit,
        searcher=tn.Grid(3),
    )
    made.run()
    assert [t.status for t in made.trials] == ["DONE", "FAILED", "DONE"]
    failed = made.trials[1]
    assert failed.epochs == 1
    assert failed.reason.startswith("two worker processes died in epoch 2; the last exited with status 3")


@pytest.mark.slow
def test_a_process_killed_from_outside_is_named_with_its_signal(pool, tmp_path):
    train(pool, 0, kind="hang", epoch=2, processes=str(tmp_path))
    killing = threading.Thread(target=kill_in_turn, args=(tmp_path, 2))
    killing.start()
    metrics, last = of_trial(finish(pool), 0)
    killing.join()
    assert len(metrics) == 1
    assert last.status == "FAILED"
    assert "died in epoch 2; the last was killed by SIGKILL (signal 9; is there enough memory?)" in last.reason


def kill_in_turn(folder, count, seconds=60):
    """Kill so many processes, each as soon as its number stands in the folder."""
    killed, until = set(), time.monotonic() + seconds
    while len(killed) < count and time.monotonic() < until:
        for process in {int(file.name) for file in folder.iterdir()} - killed:
            os.kill(process, signal.SIGKILL)
            killed.add(process)
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "message"), [(2, "sent nothing for 3 seconds"), (0, "has not begun an epoch")])
def test_a_process_that_hangs_is_killed_after_the_timeout(pool, monkeypatch, tmp_path, caplog, epoch, message):
    train(pool, 0, lr=0.1)
    finish(pool)  # so that what is imported at the first step is there
    monkeypatch.setattr(worker_executor, "UNTIL_BEGUN", 2)
    monkeypatch.setattr(pool, "timeout", 3.0)
    patience = logging.Handler()  # the process that comes next has all to import
    patience.emit = lambda record: setattr(pool, "timeout", 300.0)
    logging.getLogger("tuneflow").addHandler(patience)
    train(pool, 0, kind="hang", epoch=epoch, marker=str(tmp_path / "hung"))
    try:
        metrics, last = of_trial(finish(pool), 0)
    finally:
        logging.getLogger("tuneflow").removeHandler(patience)
    assert (tmp_path / "hung").exists()
    assert message in caplog.text
    assert last.status == "DONE"
    assert metrics == inline_metrics()


def test_the_timeout_does_not_count_until_a_worker_takes_steps(pool, monkeypatch):
    monkeypatch.setattr(pool, "timeout", 1.0)
    pool.submit(Slice(0, 0, 1), SlowToLoad(1.5), tn.types.Job(None, {"x": 1.0, "y": 0.0}, ONE), None)
    *_, last = finish(pool)
    assert last.status == "DONE"


def test_an_exception_comes_back_with_type_message_and_traceback(pool):
    train(pool, 0, kind="error", epoch=2)
    metrics, last = of_trial(finish(pool), 0)
    assert len(metrics) == 1
    assert last.status == "FAILED"
    assert last.reason == "FloatingPointError: made up"
    assert "in misfortune" in last.detail
    assert "Traceback" in last.detail


def test_a_state_that_cannot_be_sent_back_fails_its_trial(pool):
    pool.submit(Slice(0, 0, 2), KeepsALock(), tn.types.Job(None, {}, ONE), None)
    (last,) = finish(pool)
    assert last.status == "FAILED"
    assert "lock" in last.reason


def test_what_cannot_be_loaded_in_a_worker_is_said_at_once_and_with_its_traceback(shared):
    made = study(shared, tn.SearchSpace(x=tn.Choice(UNLOADABLE)), trainer=Function(partial(bowl, y=0)))
    with pytest.raises(StudyError, match=r"cannot load .* ImportError: no such thing here(.|\n)*__setstate__"):
        made.run(trials=3)
    assert [t.status for t in made.trials] == ["PAUSED"] * 2


# Stopping and ending.


def test_a_stopped_trial_is_heard_of_no_more_and_its_worker_takes_the_next(pool):
    for number in (0, 1):
        train(pool, number, lr=0.1 + number)
    seen = pool.wait()
    pool.stop(0)
    pool.stop(1)
    assert pool.busy == 0
    assert pool.free == 2
    for number in (2, 3):
        train(pool, number, lr=0.1)
    events = finish(pool)
    assert {event.trial for event in seen} <= {0, 1}
    assert {event.trial for event in events} == {2, 3}
    assert all(of_trial(events, number)[0] == inline_metrics(lr=0.1) for number in (2, 3))


def test_more_slices_than_workers_are_refused(pool):
    for number in (0, 1):
        train(pool, number)
    with pytest.raises(RuntimeError, match="all 2 workers have a slice"):
        train(pool, 2)
    assert len(finish(pool)) == 2 * (EPOCHS + 1)


@pytest.mark.slow
def test_an_interrupted_run_leaves_no_process_no_file_and_no_memory_and_goes_on_exactly(tmp_path):
    before = open_files(), sorted(os.listdir("/dev/shm")), set(multiprocessing.active_children())
    made = study(
        tn.Runtime("cpu", threads=1, workers=2), trainer=trainer(epochs=20), model=tn.Model(net), folder=tmp_path / "s"
    )
    made.run(epochs=3)
    made.close()
    assert (open_files(), sorted(os.listdir("/dev/shm")), set(multiprocessing.active_children())) == before
    whole, again = (
        study(ONE, trainer=trainer(epochs=20), model=tn.Model(net), folder=folder) for folder in (None, tmp_path / "s")
    )
    assert sum(t.epochs for t in again.trials) == 3
    for each in (whole, again):
        each.run(trials=3)
    assert table(whole) == table(again)


def open_files():
    """Descriptors of this process, but for the pipe of multiprocessing's resource tracker, which stays."""
    kinds = [
        os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")
    ]
    return sorted(kind for kind in kinds if not kind.startswith("pipe:"))


SCRIPT = """
import os, signal, sys, time
import tuneflow as tn

@tn.loop(epochs=10**6)
def fit(config, run):
    for epoch in run.epochs():
        time.sleep(0.05)
        yield {"loss": config["x"]}

def told(study, trial):
    if sum(t.epochs for t in study.trials) == 4:
        print(os.getpid(), flush=True)

if __name__ == "__main__":
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), trainer=fit, minimize="loss", callbacks=[told],
                     runtime=tn.Runtime("cpu", threads=1, workers=2), progress=True)
    try:
        study.run(trials=2)
    except KeyboardInterrupt:
        print(sorted(t.status for t in study.trials), flush=True)
"""


@pytest.fixture
def running(tmp_path):
    """A script whose two workers train, in a process group of its own."""
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    process.stdout.readline()
    yield process
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.communicate()


def group_is_gone(process, seconds=10):
    """Whether nobody of the process group runs any more, those aside whom nobody has asked for their exit status."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(group == process.pid and state not in "ZX" for state, group in processes()):
            return True
        time.sleep(0.05)
    return False


def processes():
    """(state, process group) of every process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        yield state, int(group)


@pytest.mark.slow
def test_ctrl_c_is_the_parents_affair_and_no_worker_is_left(running):
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of them
    out, err = running.communicate(timeout=30)
    assert running.returncode == 0
    assert out == "['PAUSED', 'PAUSED']\n"
    assert "finishing the epoch" in err
    assert "Traceback" not in err
    assert group_is_gone(running)


@pytest.mark.slow
def test_workers_do_not_outlive_a_parent_that_is_killed(running):
    running.kill()
    running.wait()
    assert group_is_gone(running)


# Scripts that cannot be imported, and things that cannot be sent.


def run_script(*command, **more):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=False, **more)


def test_a_script_without_a_main_guard_gets_one_clear_error(tmp_path):
    (tmp_path / "bare.py").write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    ran = run_script(str(tmp_path / "bare.py"))
    assert ran.returncode == 1
    assert ran.stderr.count("Traceback") == 1
    assert "bare.py starts a study when it is imported" in ran.stderr
    assert "if __name__ ==" in ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at_start", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "3 worker processes in a row ended at their start; .* SIGKILL"),
        ("sys.exit('no license')", "a worker process exited with status 1 before it was ready"),
    ],
)
def test_workers_that_all_die_at_their_start_end_the_run(tmp_path, at_start, said):
    script = SCRIPT.replace("import tuneflow as tn", f"if __name__ != '__main__': {at_start}\nimport tuneflow as tn")
    (tmp_path / "dies.py").write_text(script)
    ran = run_script(str(tmp_path / "dies.py"))
    assert ran.returncode == 1
    assert re.search(said, ran.stderr)


CANNOT = {
    r"Locked\.source\['cache'\]\[0\] holds a _thread.lock, .* leave it out in __getstate__": Locked,
    r"Function\.f\.keywords\['y'\] holds a _thread.lock": lambda: Function(partial(bowl, y=threading.Lock())),
}


@pytest.mark.parametrize("said", CANNOT)
def test_what_cannot_be_sent_is_refused_by_name_before_any_process_is_started(said):
    thing = CANNOT[said]()
    model, teacher = (thing, trainer()) if isinstance(thing, tn.Model) else (tn.Model(net), thing)
    executor, before = ProcessExecutor(ONE, 2), set(multiprocessing.active_children())
    with pytest.raises(TypeError, match=said):
        executor.submit(Slice(0, 0, 1), teacher, tn.types.Job(model, {}, ONE), None)
    assert executor.busy == 0
    assert set(multiprocessing.active_children()) == before


def test_a_configuration_that_cannot_be_sent_is_refused_by_name():
    with pytest.raises(TypeError, match=r"configuration\['model'\]\['act'\] holds a _thread.lock"):
        sendable.SPAWN.pickled_job(tn.types.Job(None, {"model": {"act": threading.Lock()}}, ONE))


# What is sent.


def through(value, how):
    one, other = multiprocessing.Pipe()
    parcel = SharedObject(value)
    sender = partial(send, one, value) if how == "pipe" else partial(parcel.send, one, os.getpid())
    sending = threading.Thread(target=sender)
    with one, other:
        sending.start()
        came = receive(other) if how == "pipe" else receive_shared(other)
        sending.join()
    parcel.close()
    return came


@pytest.mark.parametrize("how", ["pipe", "parcel"])
def test_tensors_and_arrays_arrive_as_they_were(how):
    array = np.arange(50_000.0).reshape(100, 500)
    came = through({**TENSORS, "array": array, "twice": [array, array]}, how)
    for name, tensor in TENSORS.items():
        torch.testing.assert_close(came[name], tensor, rtol=0, atol=0, equal_nan=True)
        assert type(came[name]) is type(tensor)
        assert came[name].requires_grad == tensor.requires_grad
    assert came["channels last"].stride() == TENSORS["channels last"].stride()
    assert np.array_equal(came["array"], array)
    assert came["twice"][0] is came["twice"][1]


def test_what_a_process_writes_into_a_parcel_is_its_own():
    one, other = multiprocessing.Pipe()
    parcel = SharedObject(torch.zeros(100_000))
    with one, other:
        for _ in range(2):
            parcel.send(one, os.getpid())
        first, second = receive_shared(other), receive_shared(other)
    parcel.close()
    first.add_(1)
    assert first.sum() == 100_000
    assert second.sum() == 0


def test_a_worker_takes_over_what_its_parent_set_for_torch():
    before = ProcessSettings.current()
    try:
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        changed = ProcessSettings.current()
        before.apply()
        assert torch.get_default_dtype() is torch.float32
        assert not torch.are_deterministic_algorithms_enabled()
        changed.apply()
        assert ProcessSettings.current() == changed != before
    finally:
        before.apply()


# The runtime.


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True, None])
def test_a_number_of_workers_that_is_none_is_refused(workers):
    with pytest.raises(ValueError, match=rf"Runtime: workers needs to be a whole number >= 1, got {workers!r}; leave"):
        tn.Runtime("cpu", workers=workers)


@pytest.mark.parametrize(
    ("timeout", "workers"), [(0, 2), (True, 2), ("1", 2), (float("nan"), 2), (float("inf"), 2), (5, 1)]
)
def test_a_timeout_that_cannot_be_kept_is_refused(timeout, workers):
    with pytest.raises(ValueError, match="Runtime: timeout needs"):
        tn.Runtime("cpu", workers=workers, timeout=timeout)


def test_workers_share_the_cores():
    assert repr(tn.Runtime("cpu", threads=1, workers=2)) == 'Runtime("cpu", threads=1, workers=2)'
    assert repr(tn.Runtime("cpu", 3, 2, timeout=60)) == 'Runtime("cpu", threads=3, workers=2, timeout=60)'
    assert tn.Runtime("cpu", workers=256).threads == 1
    assert isinstance(executor_for(tn.Runtime("cpu", workers=2)), ProcessExecutor)
    assert isinstance(executor_for(tn.Runtime("cpu")), InlineExecutor)


def test_a_study_goes_on_with_another_number_of_workers_without_a_warning(tmp_path):
    assert tn.Runtime("cpu", threads=1, workers=2).describe() == ONE.describe()
    for workers in (1, 2):
        with study(tn.Runtime("cpu", threads=1, workers=workers), trainer=fit, folder=tmp_path / "s"):
            pass
