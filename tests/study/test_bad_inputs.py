"""Bad inputs, line by line of the list: what the user sees holds the name, the value and a way out.

Lines of the list that are covered elsewhere, and not again here:

    bounds, steps, log, constants, choices, names, grids     test_bad_space: PARAMETERS, UNEVEN, NAMES, GRIDS
    configurations out of range                              test_bad_space: CONFIGS
    low == high, lists as choices                            test_space
    10^12 points: other counts                               test_searchers
    seeds -1 and 2^40, a metric unknown to a Trainer         test_study
    what a function may return, by itself                    test_function
    device and threads that are not there                    test_trainer: BAD
    label shape, range and dtype, NaN and bytes in data      test_check (the famous case), test_check_refusals
    rows that do not fit together, loaders                   test_data: BAD, test_loaders
    Ctrl-C as a signal, two processes on a fresh store       test_processes
    killed processes, and so out of memory on the host       test_processes, test_resume
    full disks                                               tests/faults/test_full_disk
    a flipped byte in an ended trial's state                 test_study
"""

import os
import shutil
import sqlite3
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tuneflow as tn
from tests.helpers.dry_run_cases import CLASSES, IMAGES, INF, NAN, RATE, linear
from tests.helpers.messages import refused
from tuneflow.errors import NothingFinished, StoreError, StudyError
from tuneflow.store import sqlite_file
from tuneflow.train.function_trainer import Function

SPACE = tn.SearchSpace(x=tn.Float(0.0, 1.0))


def half(**config):
    return 0.5


def make(f=half, **settings):
    return tn.Study(**{"space": SPACE, "trainer": Function(f), "minimize": "value", "progress": False} | settings)


def trained(kind=tn.Trainer, space=RATE, **settings):
    data = (IMAGES, CLASSES)
    return tn.Study(
        model=tn.Model(linear),
        trainer=kind(data, data, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=2),
        space=tn.SearchSpace(**space),
        runtime=tn.Runtime("cpu", threads=1),
        progress=False,
        **settings,
    )


def table(study):
    return [(t.number, t.config, t.status, dict(t.metrics)) for t in study.trials]


def assert_goes_on(way, folder, trials):
    """Made again, the study in `folder` ends like one to which nothing happened."""
    with way(folder=folder) as again:
        again.run(trials=trials)
    whole = way()
    whole.run(trials=trials)
    assert table(again) == table(whole)


# Arguments.


def loader_of(rows):
    return DataLoader(TensorDataset(IMAGES[:rows], CLASSES[:rows]), batch_size=32)


def trainer(train=(IMAGES, CLASSES), valid=(IMAGES, CLASSES)):
    return tn.Trainer(train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD)


def yields(config, run):
    yield {"value": 0.5}


EMPTY = (IMAGES[:0], CLASSES[:0])
CUBE = tn.SearchSpace(**{f"x{i}": tn.Float(0, 1) for i in range(12)})
LOOP = "a tn.Trainer, or a function under @tn.loop"

TYPES = {
    "direction typo, minimise": (lambda: make(minimise="a"), ['"minimise"', 'Did you mean "minimize"?']),
    "direction typo, maximise": (lambda: make(maximise="a"), ['"maximise"', 'Did you mean "maximize"?']),
    "typo of trials": (lambda: tn.minimize(half, SPACE, trails=3), ['"trails"', 'Did you mean "trials"?']),
    "metric True": (lambda: make(minimize=True), ["minimize", "name of a metric", "True"]),
    "no metric": (lambda: make(minimize=[]), ["minimize", "name of a metric", "[]"]),
    "seed True": (lambda: make(seed=True), ["seed", "whole number", "got True"]),
    "seed '0'": (lambda: make(seed="0"), ["seed", "whole number", "got '0'"]),
    "seed None": (lambda: make(seed=None), ["seed", "whole number", "got None"]),
    "objective not callable": (lambda: tn.minimize(3, SPACE, trials=1), ["needs to be callable", "got 3"]),
    "objective of another name": (lambda: tn.minimize(lambda y: y, SPACE, trials=1), ['no argument "x"', "It takes y"]),
    "trainer not callable": (lambda: make(trainer=3), ["trainer", "got 3", LOOP]),
    "trainer a class": (lambda: make(trainer=tn.Trainer), ["trainer", "got <class", LOOP]),
    "trainer a function": (lambda: make(trainer=half), ["trainer", "got <function half", "tn.minimize"]),
    "trainer a bare loop": (lambda: make(trainer=yields), ["trainer", "got <function yields", LOOP]),
    "seconds '3'": (lambda: make().run(seconds="3"), ["run: seconds", "number", "got '3'"]),
    "checkpoint 'x'": (lambda: make(folder=tn.Folder(None, checkpoint="x")), ["checkpoint", "number", "got 'x'"]),
    "callbacks not a list": (lambda: make(callbacks=half), ["callbacks", "a list", "half"]),
    "callback not callable": (lambda: make(callbacks=[3]), ["callbacks", "callable", "got 3"]),
    "folder 3": (lambda: make(folder=3), ["folder", "a path", "got 3"]),
    "same name twice": (lambda: tn.SearchSpace(x=tn.Int(0, 2), **SPACE.entries), ["multiple values", "'x'"]),
    "labels as text": (lambda: tn.Data(IMAGES[:2], ["cat", "dog"]), ["Data: targets", "numbers", "<U3"]),
    "labels None": (lambda: tn.Data(IMAGES[:2], [None, 1]), ["Data: targets", "numbers", "object"]),
}
VALUES = {
    "threads -1": (lambda: tn.Runtime(threads=-1), ["threads", ">= 1", "got -1", "leave it out"]),
    "threads True": (lambda: tn.Runtime(threads=True), ["threads", ">= 1", "got True", "leave it out"]),
    "threads '2'": (lambda: tn.Runtime(threads="2"), ["threads", ">= 1", "got '2'", "leave it out"]),
    "device None": (lambda: tn.Runtime(None), ["no device None", "Here: cpu"]),
    "device cpu:7": (lambda: tn.Runtime("cpu:7"), ['"cpu:7" is not there', "Here: cpu"]),
    "trials '3'": (lambda: make().run(trials="3"), ["run: trials", ">= 1", "got '3'"]),
    "seconds NaN": (lambda: make().run(seconds=NAN), ["run: seconds", "number", "got nan"]),
    "checkpoint NaN": (lambda: make(folder=tn.Folder(None, checkpoint=NAN)), ["checkpoint", "number", "got nan"]),
    "durable": (lambda: make(folder=tn.Folder(None, durable="allways")), ["durable", '"always"', "got 'allways'"]),
    "folder with NUL": (lambda: make(folder="a\0b"), ["folder", "a path", r"got 'a\x00b'"]),
    "url typo sqllite:///": (lambda: make(folder="sqllite:///a"), ["folder", "a path", "'sqllite:///a'"]),
    "enqueue out of range": (lambda: make().enqueue({"x": 7}), ['"x"', "from 0.0 to 1.0", "got 7"]),
    "enqueue NaN": (lambda: make().enqueue({"x": NAN}), ['"x"', "from 0.0 to 1.0", "got nan"]),
    "enqueue too little": (lambda: make().enqueue({}), ['"x" is missing', "give it a value"]),
    "enqueue of another space": (lambda: make().enqueue({"y": 1}), ['"y" is not in the space', "here: x"]),
    "grid of 10^12 points": (
        lambda: make(space=CUBE, searcher=tn.Grid(10)),
        ["1,000,000,000,000 points", "tn.Sobol()"],
    ),
    "empty loader": (lambda: trainer(loader_of(0)), ["Trainer: train", "at least one item", "got 0"]),
    "empty training data": (lambda: trainer(EMPTY), ["Trainer: train", "at least one row", "got 0"]),
    "empty validation data": (lambda: trainer(valid=EMPTY), ["Trainer: valid", "one row", "got 0"]),
    "rows of unequal length": (lambda: tn.Data([[1, 2], [3]], [0, 1]), ["Data: inputs", "same length"]),
    "a single number as data": (lambda: tn.Data(torch.tensor(1.0), [0]), ["Data: inputs", "rows", "()"]),
}
ARGUMENTS = {line: (TypeError, *row) for line, row in TYPES.items()} | {
    line: (ValueError, *row) for line, row in VALUES.items()
}


@pytest.mark.parametrize("line", ARGUMENTS)
def test_argument_is_named_with_its_value_and_a_way_out(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error, call, pieces = ARGUMENTS[line]
    refused(error, call, *pieces)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("typo", "name"), [("minimise", "minimize"), ("maximise", "maximize")])
def test_direction_typo_of_a_function_is_corrected_by_python(typo, name, capsys):
    with pytest.raises(AttributeError) as caught:
        getattr(tn, typo)
    sys.__excepthook__(caught.type, caught.value, None)
    assert f"Did you mean: '{name}'" in capsys.readouterr().err


# What a function returns or raises.


def nothing(x):
    pass


def hides(x):
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    raise Odd


def lost_file(x):
    raise FileNotFoundError(os.fsdecode(b"caf\xe9.png"))


NUMBER = ["needs to return a number", 'a dict of numbers such as {"loss": 0.3}']
OUTCOMES = {
    "no return": (nothing, "FAILED", ["returned None", *NUMBER]),
    "returns NaN": (lambda x: NAN, "DIVERGED", ["value is nan at epoch 1"]),
    "returns inf": (lambda x: INF, "DIVERGED", ["value is inf at epoch 1"]),
    "returns -inf": (lambda x: -INF, "DIVERGED", ["value is -inf at epoch 1"]),
    "returns NaN for the objective": (lambda x: {"value": NAN, "b": 1}, "DIVERGED", ["value is nan at epoch 1"]),
    "returns NaN for another metric": (lambda x: {"value": 1.0, "b": NAN}, "DONE", []),
    "returns tuple": (lambda x: (1.0, 2.0, 3.0), "FAILED", ["returned (1.0, 2.0, 3.0)", *NUMBER]),
    "returns string": (lambda x: "0.3", "FAILED", ["returned '0.3'", *NUMBER]),
    "returns two elements": (lambda x: torch.ones(2), "FAILED", ["a Tensor of shape (2,)", *NUMBER]),
    "returns a dict of a list": (lambda x: {"value": [1.0]}, "FAILED", ['"value"', "one number", "[1.0]", "reduce it"]),
    "returns 10^400": (lambda x: 10**400, "DIVERGED", ["value is inf at epoch 1"]),
    "exception in objective": (lambda x: 1 / 0, "FAILED", ["ZeroDivisionError: division by zero"]),
    "exception that names a file in bytes": (lost_file, "FAILED", ["FileNotFoundError: caf", ".png"]),
    "exception that cannot be shown": (hides, "FAILED", ["Odd"]),
    "out of memory": (lambda x: torch.empty(10**15), "FAILED", ["RuntimeError", "4000000000000000 bytes"]),
}
FAILURES = [line for line, (_, status, _) in OUTCOMES.items() if status == "FAILED"]


@pytest.mark.parametrize("line", OUTCOMES)
def test_bad_outcome_is_stored_with_its_reason_and_the_study_goes_on(line, tmp_path):
    f, status, pieces = OUTCOMES[line]
    calls = []

    def at_first(x):
        calls.append(x)
        return f(x) if len(calls) == 1 else 0.5

    study = make(at_first, folder=tmp_path)
    study.run(trials=2)
    first, second = tn.open(tmp_path).trials
    assert (first.status, second.status) == (status, "DONE")
    assert (first.reason == "") == (status == "DONE")
    assert [piece for piece in pieces if piece not in first.reason] == [], first.reason
    assert set(first.config) == {"x"}
    assert study.best.number == 1


@pytest.mark.parametrize("line", FAILURES)
def test_five_failures_in_a_row_end_the_run_with_the_last_reason(line, tmp_path):
    f, _, pieces = OUTCOMES[line]
    study = make(f, folder=tmp_path)
    refused(StudyError, lambda: study.run(trials=9), "5 trials in a row failed", *pieces)
    stored = tn.open(tmp_path).trials
    assert [t.status for t in stored] == ["FAILED"] * 5
    assert [piece for piece in pieces if piece not in stored[4].reason] == []


def test_traceback_of_an_exception_is_stored(tmp_path):
    with suppress(StudyError):
        make(lambda x: 1 / 0, folder=tmp_path).run(trials=9)
    for trial in tn.open(tmp_path).trials:
        assert trial.detail.startswith("Traceback")
        assert "test_bad_inputs.py" in trial.detail
        assert trial.detail.rstrip().endswith("ZeroDivisionError: division by zero")


def far():
    return trained(space={"optimizer": {"lr": tn.Float(1e38, 2e38)}})


@pytest.mark.parametrize("way", [lambda: make(lambda x: NAN), far], ids=["a NaN told", "a NaN found"])
def test_diverged_trials_do_not_end_a_run(way):
    study = way()
    study.run(trials=7)
    assert [t.status for t in study.trials] == ["DIVERGED"] * 7


LAST = [(nothing, "FAILED: TypeError: nothing returned None"), (lambda x: INF, "DIVERGED: value is inf at epoch 1")]


@pytest.mark.parametrize(("f", "reason"), LAST, ids=["all fail", "all diverge"])
def test_study_without_a_score_says_why(f, reason):
    refused(NothingFinished, lambda: tn.minimize(f, SPACE, trials=3), "3 of 3 ended", "trial 2", reason)


@pytest.mark.parametrize("trials", [1, 3])
def test_metric_never_reported_names_those_reported_and_costs_no_trial(trials, tmp_path):
    says = [
        'metric "value" was never reported',
        'Did you mean "valeu"?',
        "Reported: valeu, seconds.",
        "by metric= of tn.minimize",
    ]
    with make(lambda x: {"valeu": 1.0, "seconds": 2.0}, folder=tmp_path) as study:
        refused(StudyError, lambda: study.run(trials=trials), *says)
    with make(lambda x: {"value": 1.0, "seconds": 2.0}, folder=tmp_path) as study:
        study.run(trials=trials)
        assert [t.status for t in study.trials] == ["DONE"] * trials


def test_metric_never_told_names_those_told_and_can_be_told_right():
    study = make(trainer=None, minimize=None, maximize="accuracy")
    trial = study.ask()
    says = ['metric "accuracy" was never reported', 'Did you mean "acuracy"?', "Reported: acuracy."]
    refused(StudyError, lambda: study.tell(trial, {"acuracy": 1.0}), *says)
    assert study.tell(trial, {"accuracy": 1.0}).status == "DONE"


def test_failures_that_are_told_are_all_stored(tmp_path):
    study = make(trainer=None, folder=tmp_path)
    for _ in range(6):
        trial = study.ask()
        with suppress(StudyError):
            study.tell(trial, None, reason="no luck")
    study.close()
    assert [(t.status, t.reason) for t in tn.open(tmp_path).trials] == [("FAILED", "no luck")] * 6


class Surprise(tn.Trainer):
    """`happens` at the batch whose number `at` says, counted over all trials; evaluation does not count."""

    batches, at = 0, None

    def loss_of(self, module, batch):
        loss = super().loss_of(module, batch)
        Surprise.batches += 1
        return self.happens(loss) if Surprise.batches == self.at else loss

    def evaluate(self, module, data):
        before = Surprise.batches
        measured = super().evaluate(module, data)
        Surprise.batches = before
        return measured


def surprised(at, happens, **settings):
    """Four batches make an epoch, two epochs a trial."""
    study = trained(Surprise, **settings)
    Surprise.batches, study.trainer.at, study.trainer.happens = 0, at, happens
    return study


def interrupt(loss):
    raise KeyboardInterrupt


def test_loss_that_is_nan_ends_its_trial_at_that_step_and_is_counted(tmp_path):
    surprised(4 + 2, lambda loss: loss * NAN, folder=tmp_path).run(trials=2)
    archive = tn.open(tmp_path)
    diverged, done = archive.trials
    assert (diverged.status, done.status) == ("DIVERGED", "DONE")
    assert diverged.reason.startswith("loss not finite at epoch 2, step 2 (last finite loss ")
    assert (diverged.config.keys(), diverged.epochs) == ({"optimizer"}, 1)
    assert "1 DIVERGED, 1 DONE" in archive.listing()


# Interruptions, and the clock.


def test_interrupted_trial_goes_on_in_another_study_to_the_same_table(tmp_path):
    study = surprised(8 + 4 + 2, interrupt, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt), study:
        study.run(trials=3)
    done, paused = tn.open(tmp_path).trials
    assert (done.status, paused.status, paused.epochs, paused.reason) == ("DONE", "PAUSED", 1, "interrupted")
    assert_goes_on(lambda **settings: trained(Surprise, **settings), tmp_path, 3)


def test_callback_that_fails_at_the_last_epoch_costs_no_trial(tmp_path):
    def fails(study, trial):
        if trial.epochs == 2:
            raise OSError("no plot")

    with pytest.raises(OSError, match="no plot"), trained(folder=tmp_path, callbacks=[fails]) as study:
        study.run(trials=2)
    assert_goes_on(trained, tmp_path, 2)


def test_trial_of_a_study_that_is_still_at_work_is_left_alone(tmp_path):
    slow, quick = make(folder=tmp_path), make(folder=tmp_path)
    slow.ask()
    quick.run(trials=3)
    assert [t.status for t in quick.trials] == ["RUNNING", "DONE", "DONE"]


def test_clock_that_goes_back_an_hour_changes_nothing(tmp_path, monkeypatch):
    now = [time.time()]

    def back():
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", back)
    with make(lambda x: {"value": x, "clock": time.time()}, folder=tmp_path) as study:
        study.run(trials=3, seconds=60)
    study = make(lambda x: {"value": x, "clock": time.time()}, folder=tmp_path)
    study.run(trials=6, seconds=60)
    whole = make(lambda x: x)
    whole.run(trials=6)
    clock = [t.metrics["clock"] for t in study.trials]
    assert clock == sorted(clock, reverse=True)
    assert [(t.config, t.status) for t in study.trials] == [(t.config, t.status) for t in whole.trials]
    assert all(0 <= t.seconds < 60 for t in study.trials)
    study.run(trials=9, seconds=0)
    assert len(study.trials) == 6


# A study that is there already.


def branches(**labels):
    return tn.SearchSpace(x=tn.Float(0.0, 1.0), kind=tn.Choice(["a", "b"]), act=tn.Choice(labels))


def another(**config):
    return 0.5


BASE = branches(relu=nn.ReLU, tanh=nn.Tanh)
CHANGES = {
    "same name, other range": ({"x": tn.Float(0.5, 2.0)}, ["x: low was 0.0, now 0.5", "high was 1.0, now 2.0"]),
    "same name, log": ({"x": tn.Float(0.0, 1.0, step=0.5)}, ["x: step was None, now 0.5"]),
    "same name, other kind": ({"x": tn.Int(0, 1)}, ["x was Float(0.0, 1.0), now Int(0, 1)"]),
    "a name more": ({"y": tn.Float(0, 1)}, ["y is new, Float(0.0, 1.0)"]),
    "choice less": ({"kind": tn.Choice(["a", "c"])}, ["kind: values was ['a', 'b'], now ['a', 'c']"]),
    "choices in another order": ({"kind": tn.Choice(["b", "a"])}, ["kind: values was ['a', 'b'], now ['b', 'a']"]),
    "label less": (
        {"act": tn.Choice({"tanh": nn.Tanh, "gelu": nn.GELU})},
        ["act.relu is gone, was torch.nn.modules.activation.ReLU", "act.gelu is new"],
    ),
    "another object behind a label": (
        {"act": tn.Choice({"relu": nn.GELU, "tanh": nn.Tanh})},
        ["act.relu: name was 'torch.nn.modules.activation.ReLU', now 'torch.nn.modules.activation.GELU'"],
    ),
    "direction": ({"minimize": None, "maximize": "value"}, ["goals.value was 'minimize', now 'maximize'"]),
    "metric": ({"minimize": "loss"}, ["goals.value was 'minimize', now None", "goals.loss was None, now 'minimize'"]),
    "epoch that counts": ({"at": "last"}, ["at was 'best', now 'last'"]),
    "seed": ({"seed": 2**40}, [f"seed was 0, now {2**40}"]),
    "pairing": ({"paired": False}, ["paired was True, now False"]),
    "replicas": ({"replicas": 2}, ["replicas was None, now 2"]),
    "function": ({"trainer": Function(another)}, ["function was 'half', now 'another'"]),
}


@pytest.mark.parametrize("line", CHANGES)
def test_changed_study_is_refused_with_the_difference_and_left_as_it_was(line, tmp_path):
    changes, pieces = CHANGES[line]
    parts = {name: value for name, value in changes.items() if isinstance(value, tn.Float | tn.Int | tn.Choice)}
    space = tn.SearchSpace(**(BASE.entries | parts))
    with make(space=BASE, folder=tmp_path) as study:
        study.run(trials=2)
    settings = {name: value for name, value in changes.items() if name not in parts} | {"space": space}
    advice = [str(tmp_path), "made with other settings", "Use the same settings, or another folder"]
    refused(tn.errors.FingerprintError, lambda: make(folder=tmp_path, **settings), *pieces, *advice)
    with make(space=BASE, folder=tmp_path) as again:
        assert table(again) == table(study)


def test_study_that_exists_already_goes_on(tmp_path):
    calls = []

    def counted(**settings):
        return make(lambda x: calls.append(x) or x, **settings)

    counted(folder=tmp_path).run(trials=2)
    assert_goes_on(counted, tmp_path, 3)
    assert len(calls) == 2 + 1 + 3  # the last three are those of the whole


def test_hundred_thousand_choices_are_stored_and_a_change_is_told_in_short(tmp_path):
    options = [f"option {i}" for i in range(100_000)]
    with make(space=tn.SearchSpace(x=tn.Choice(options)), folder=tmp_path) as study:
        study.run(trials=3)
    assert [t.config for t in tn.open(tmp_path).trials] == [t.config for t in study.trials]
    with pytest.raises(tn.errors.FingerprintError, match="option 100000") as caught:
        make(space=tn.SearchSpace(x=tn.Choice([*options[1:], "option 100000"])), folder=tmp_path)
    assert len(str(caught.value)) < 1000


CHOICES = [[[1, 2], [3]], [{"a": 1}, {"a": 2}], [None, True, 0, "0", [1, [2]]], [os.fsdecode(b"\xe9"), "e"]]


@pytest.mark.parametrize("options", CHOICES, ids=["lists", "dicts", "of all kinds", "bytes of a file name"])
def test_choices_that_cannot_be_hashed_come_back_from_the_store(options, tmp_path):
    with make(space=tn.SearchSpace(x=tn.Choice(options)), searcher=tn.Grid(), folder=tmp_path) as study:
        study.run()
    assert [t.config["x"] for t in tn.open(tmp_path).trials] == options


def test_sql_in_names_values_and_reasons_is_only_text(tmp_path):
    evil = """x"]'); DROP TABLE trial; --"""
    space = tn.SearchSpace(**{evil: tn.Choice([evil])})
    with make(space=space, trainer=None, minimize=evil, folder=tmp_path) as study:
        study.enqueue({evil: evil})
        study.enqueue({evil: evil})
        study.tell(study.ask(), {evil: 1.0})
        study.tell(study.ask(), None, reason=evil)
    done, failed = tn.open(tmp_path).trials
    assert (done.config, dict(done.metrics), failed.reason) == ({evil: evil}, {evil: 1.0}, evil)


# Stores that are none.


def database(statement, version=0):
    def spoil(folder):
        with sqlite3.connect(folder / "study.sqlite") as db:
            db.execute(statement)
            db.execute(f"PRAGMA user_version={version}")
        db.close()

    return spoil


def rewritten(change):
    """A real study's file, changed."""

    def spoil(folder):
        with make(folder=folder) as study:
            study.run(trials=20)
        path = folder / "study.sqlite"
        path.write_bytes(change(path.read_bytes()))

    return spoil


SONGS = "CREATE TABLE songs (title)"
FOREIGN = ["not a tuneflow store", "songs", "another folder"]
DAMAGED = ["the file is damaged", "python -m tuneflow check", "Restore it from a backup"]
NEWER = ["written by a newer tuneflow", "store version 99, this one reads 5", "upgrade tuneflow"]
OLDER = ["written by an older tuneflow", "store version 1, this one reads 5", "another folder"]
STORES = {
    "text file": (lambda folder: (folder / "study.sqlite").write_text("hello"), ["not a tuneflow store"]),
    "half of a store": (rewritten(lambda content: content[: len(content) // 2]), DAMAGED),
    "its first page": (rewritten(lambda content: content[:4096]), DAMAGED),
    "zeros in front": (rewritten(lambda content: bytes(100) + content[100:]), ["not a tuneflow store"]),
    "another program's database": (database(SONGS), FOREIGN),
    "another program's database of version 1": (database(SONGS, 1), FOREIGN),
    "another program's database of version 5": (database(SONGS, 5), FOREIGN),
    "store of a newer tuneflow": (database("CREATE TABLE study (key, value, more)", 99), NEWER),
    "store of an older tuneflow": (database("CREATE TABLE study (key, value)", 1), OLDER),
}


@pytest.mark.parametrize("way", [lambda folder: make(folder=folder), tn.open], ids=["Study", "open"])
@pytest.mark.parametrize("line", STORES)
def test_store_that_is_none_is_refused_by_its_path_and_left_as_it_was(line, way, tmp_path):
    spoil, pieces = STORES[line]
    spoil(tmp_path)
    before = (tmp_path / "study.sqlite").read_bytes()
    refused(StoreError, lambda: way(tmp_path), str(tmp_path / "study.sqlite"), *pieces)
    assert (tmp_path / "study.sqlite").read_bytes() == before


@contextmanager
def unprivileged():
    """For what root may do and others may not: without root's rights, where this process has them."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError as error:
        pytest.skip(f"root cannot become nobody here: {error}")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared():
    """A folder that everybody may read."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


FILE = ["it is a file", "another name"]
PLACES = {
    "folder is a file": (lambda top: (top / "study").write_text(""), ["study: cannot", *FILE]),
    "parent is a file": (lambda top: (top / "up").write_text(""), ["up: cannot", *FILE]),
    "store is a directory": (lambda top: (top / "study/study.sqlite").mkdir(parents=True), ["not a tuneflow store"]),
    "name of 300 characters": (lambda top: None, ["cannot be used as a study's folder", "too long"]),
}
FOLDERS = {"parent is a file": "up/study", "name of 300 characters": "x" * 300}


@pytest.mark.parametrize("way", [make, trained], ids=["function", "trainer"])
@pytest.mark.parametrize("line", PLACES)
def test_folder_that_cannot_be_one_is_named(line, way, tmp_path):
    spoil, pieces = PLACES[line]
    spoil(tmp_path)
    refused(StoreError, lambda: way(folder=tmp_path / FOLDERS.get(line, "study")), *pieces)


def test_parents_that_are_missing_are_made(tmp_path):
    make(folder=tmp_path / "a" / "b").run(trials=1)
    assert len(tn.open(tmp_path / "a" / "b").trials) == 1


@pytest.mark.parametrize("mode", [0o555, 0o700], ids=["of which all may read", "of somebody else"])
@pytest.mark.parametrize("way", [make, trained], ids=["function", "trainer"])
def test_folder_in_which_one_may_not_write_is_named_with_who_may(way, mode, shared):
    if mode == 0o700 and os.geteuid() != 0:
        pytest.skip("needs a folder of somebody else")
    way()  # what is imported on first use may lie where only root may read
    parent, owner = shared / "parent", shared.owner()
    parent.mkdir()
    parent.chmod(mode)
    with unprivileged():
        refused(
            StoreError,
            lambda: way(folder=parent / "study"),
            str(parent / "study"),
            "may not write",
            f"belongs to {owner}",
        )


@pytest.fixture
def kept(shared):
    """A study that one may only read."""
    with make(folder=shared / "study") as study:
        study.run(trials=2)
    for path in (shared / "study").iterdir():
        path.chmod(0o555 if path.is_dir() else 0o444)
    (shared / "study").chmod(0o555)
    yield study
    (shared / "study").chmod(0o755)


def test_study_that_one_may_only_read_is_named_with_who_may_write(kept):
    path, owner = str(kept.folder / "study.sqlite"), kept.folder.owner()
    with unprivileged():
        refused(
            StoreError, lambda: make(folder=kept.folder).run(trials=3), path, "may not write", f"belongs to {owner}"
        )


def test_study_that_one_may_only_read_can_be_opened(kept):
    with unprivileged():
        assert table(tn.open(kept.folder)) == table(kept)


def test_closed_study_says_so(tmp_path):
    study = make(folder=tmp_path)
    study.close()
    for call in (study.ask, lambda: study.run(trials=1), lambda: study.enqueue({"x": 0.5})):
        refused(StoreError, call, str(tmp_path / "study.sqlite"), "closed")


def test_file_in_the_folder_of_states_that_is_none_is_left_alone(tmp_path):
    trained(folder=tmp_path).run(trials=1)
    copy = tmp_path / "states" / "000000-000002 copy.state"
    copy.write_text("")
    with trained(folder=tmp_path) as again:
        again.run(trials=2)
    assert [t.status for t in again.trials] == ["DONE", "DONE"]
    assert copy.exists()


DAMAGES = {"flipped byte": lambda c: c[:-1] + bytes([c[-1] ^ 1]), "torn": lambda c: c[:-1], "empty": lambda c: b""}


@pytest.mark.parametrize("change", DAMAGES.values(), ids=DAMAGES)
def test_damaged_state_of_a_paused_trial_is_named_and_can_be_removed(change, tmp_path):
    with trained(folder=tn.Folder(tmp_path, keep=2)) as study:
        study.run(epochs=3, trials=2)
    (path,) = (tmp_path / "states").glob("000001-*")
    path.write_bytes(change(path.read_bytes()))
    with trained(folder=tn.Folder(tmp_path, keep=2)) as study:
        says = [str(path), "SHA-256 differs", "damaged", "Remove it"]
        refused(tn.errors.CheckpointError, lambda: study.run(trials=2), *says)
    path.unlink()
    assert_goes_on(trained, tmp_path, 2)


@pytest.mark.parametrize("words", ["format", "config", "0.1.0", "normalizer", "lr"])
def test_flipped_byte_in_what_a_saved_model_says_of_itself_is_noticed(words, tmp_path):
    study = trained()
    study.run(trials=1)
    study.best.save(tmp_path / "best.pt")
    content = bytearray((tmp_path / "best.pt").read_bytes())
    content[content.index(words.replace("0.1.0", tn.__version__).encode())] ^= 1
    (tmp_path / "best.pt").write_bytes(content)
    refused(tn.errors.CheckpointError, lambda: tn.load(tmp_path / "best.pt", linear), "best.pt", "damaged")


def test_saved_model_is_refused_by_another_space(tmp_path):
    study = trained()
    study.run(trials=1)
    study.best.save(tmp_path / "best.pt")
    says = ['"optimizer" is not in the space', "here: x"]
    refused(ValueError, lambda: tn.load(tmp_path / "best.pt", linear, SPACE), *says)


def test_builder_that_needs_arguments_the_file_does_not_have_is_told_the_way(tmp_path):
    study = trained()
    study.run(trials=1)
    study.best.save(tmp_path / "best.pt")
    says = ['no section "model"', "missing 1 required positional argument: 'width'", "functools.partial"]
    refused(ValueError, lambda: tn.load(tmp_path / "best.pt", lambda width: nn.Linear(width, 1)), *says)


def test_store_on_a_network_file_system_is_warned_of_once_and_works(tmp_path, monkeypatch):
    mounts = tmp_path.with_name("mounts")
    mounts.write_text(f"dev / ext4 rw 0 0\nhost:/share {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(sqlite_file, "MOUNTS", mounts)
    with pytest.warns(UserWarning, match=r"study\.sqlite: lies on a network file system \(nfs4\).*unsafe") as caught:
        study = make(folder=tmp_path)
    assert [warning.filename for warning in caught] == [__file__]
    study.run(trials=3)
    assert [t.status for t in study.trials] == ["DONE"] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["states", "study.sqlite"]  # no WAL
