"""Trained modules made from a study's folder alone: the same as the study's own, or refused by name."""

import shutil

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.narrowing import Keep
from tuneflow.errors import CheckpointError, StudyError
from tuneflow.store.checkpoints import read, write
from tuneflow.train.job import TrainState

ROWS = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
CLASSES = (ROWS @ torch.randn(4, 3, generator=torch.Generator().manual_seed(1))).argmax(1)
TABLE = tn.Data(ROWS, CLASSES)
NUMBERS = tn.Data(ROWS, 100 * ROWS[:, :1] + 50)
PARTS = tn.Data({"numbers": ROWS, "codes": torch.arange(64) % 5}, CLASSES)


def net(width=8, act=nn.Tanh):
    return nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), act(), nn.Linear(width, 3))


def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def one_output():
    return nn.Linear(4, 1)


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.codes, self.linear = nn.Embedding(5, 2), nn.LazyLinear(3)

    def forward(self, numbers, codes):
        return self.linear(torch.cat([numbers, self.codes(codes)], 1))


class Centers:
    """Subtracts the mean of each column; `plain` keeps it where no state has it."""

    def __init__(self, plain=False):
        self.plain = plain

    def fit(self, inputs):
        module = nn.Module()
        mean = inputs.mean(0)
        if self.plain:
            module.mean = mean.tolist()
        else:
            module.register_buffer("mean", mean)
        module.forward = lambda rows: rows - torch.as_tensor(module.mean)
        return module


def make(folder, model=net, data=TABLE, space=None, *, loss=None, optimizer=torch.optim.SGD, epochs=1, **settings):
    trainer = tn.Trainer(data, *([] if "folds" in settings else [data]), loss=loss or nn.CrossEntropyLoss(),
                         optimizer=optimizer, epochs=epochs, batch_size=16,
                         **{name: settings.pop(name) for name in ("folds",) if name in settings})  # fmt: skip
    settings = {"runtime": tn.Runtime("cpu", threads=1), "progress": False} | settings
    space = {"optimizer": {"lr": tn.Float(0.01, 0.1)}} | (space or {})
    return tn.Study(model=model if isinstance(model, tn.Model) else tn.Model(model), trainer=trainer,
                    space=tn.SearchSpace(**space), folder=folder, **settings)  # fmt: skip


def trained(folder, *arguments, trials=1, **settings):
    """Return the study's own best module, and what is left of it: the folder."""
    with make(folder, *arguments, **settings) as study:
        study.run(trials=trials)
        return study.best.model()


CENTERED = tn.Model(net, normalize=Centers())
KINDS = {
    "classes": {"model": net, "epochs": 3},
    "width": {"model": net, "space": {"model": {"width": tn.Int(4, 8)}}},
    "numbers": {"model": one_output, "data": NUMBERS, "loss": nn.MSELoss()},
    "parts": {"model": Parts, "data": PARTS},
    "own normalizer": {"model": CENTERED},
    "not normalized": {"model": tn.Model(net, normalize=False)},
    "whitened": {"model": tn.Model(net, normalize="whiten")},
    "averaged": {"model": net, "optimizer": tn.optim.Averaged(torch.optim.SGD)},
    "step": {"model": tn.Model(wide, steps={"keep": Keep}), "space": {"keep": {"share": tn.Float(0.3, 0.7)}}},
    "cleaned": {"model": tn.Model(net, steps={"round": tn.harden.Rounding}), "space": {"round": {"bits": 3}}},
    "replicas": {"model": net, "replicas": 2},
    "lanes": {"model": wide, "runtime": tn.Runtime("cpu", threads=1, lanes=2)},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_module_of_a_folder_is_that_of_its_study(kind, tmp_path):
    settings = KINDS[kind]
    own = trained(tmp_path / "study", **settings)
    module = tn.open(tmp_path / "study").best.model(settings["model"])
    rows = settings.get("data", TABLE).inputs
    assert torch.equal(module(rows), own(rows))
    assert not module.training


def test_the_module_can_be_trained_on_and_saved_as_any_winner(tmp_path):
    own = trained(tmp_path / "first", wide)
    winner = tn.open(tmp_path / "first").best.model(wide)
    steps = {"model": tn.Model(winner, steps={"keep": Keep}), "space": {"keep": {"share": tn.Float(0.3, 0.7)}}}
    fork = trained(tmp_path / "second", **steps)
    again = tn.open(tmp_path / "second").best.model(wide)
    assert torch.equal(again(ROWS), fork(ROWS))
    assert again.module[1].out_features < own.module[1].out_features
    third = trained(tmp_path / "third", tn.Model(again))
    assert torch.equal(tn.open(tmp_path / "third").best.model(wide)(ROWS), third(ROWS))


def test_objects_behind_labels_need_the_space(tmp_path):
    space = {"model": {"act": tn.Choice({"relu": nn.ReLU, "tanh": nn.Tanh})}}
    with make(tmp_path, net, space=space) as study:
        study.run(trials=1)
        own, whole = study.best.model(), study.space
    best = tn.open(tmp_path).best
    assert torch.equal(best.model(net, whole)(ROWS), own(ROWS))
    with pytest.raises(ValueError, match=r"model\.act stands for an object .* pass space="):
        best.model(net)


def test_a_cross_validated_study_gives_the_module_of_all_rows_once_it_was_trained(tmp_path):
    with make(tmp_path, folds=2) as study:
        study.run(trials=1)
        with pytest.raises(CheckpointError, match="not yet on all rows"):
            tn.open(tmp_path).best.model(net)
        own = study.best.model()
    assert torch.equal(tn.open(tmp_path).best.model(net)(ROWS), own(ROWS))


def test_every_kept_trial_gives_its_module(tmp_path):
    with make(tn.Folder(tmp_path, keep="all")) as study:
        study.run(trials=3)
        own = [study.result(number).model()(ROWS) for number in range(3)]
    archive = tn.open(tmp_path)
    assert repr(archive.result(2)).startswith("trial 2: loss ")
    assert all(torch.equal(archive.result(n).model(net)(ROWS), own[n]) for n in range(3))
    for number in (3, 1.5, "best"):
        with pytest.raises(StudyError, match=f"no trial {number}; this study has 3"):
            archive.result(number)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "study"
    trained(folder, wide, trials=3)
    return folder


def test_a_trial_whose_state_is_not_kept_is_refused(folder):
    archive = tn.open(folder)
    other = next(trial for trial in archive.trials if trial.number != archive.best.number)
    with pytest.raises(CheckpointError, match=rf"trial {other.number} after epoch \d is not kept.*keep="):
        archive.result(other.number).model(wide)


def test_another_builder_is_refused(folder):
    with pytest.raises(ValueError, match=r"study: trial \d: .* in the module that the builder makes"):
        tn.open(folder).best.model(net)


def test_a_damaged_state_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "study")
    (file,) = (copy / "states").glob("*.state")
    file.write_bytes(file.read_bytes()[:-1] + b"\0\1")
    with pytest.raises(CheckpointError, match="SHA-256 differs") as refused:
        tn.open(copy).best.model(wide)
    assert "keep=" not in str(refused.value)


@pytest.mark.parametrize("name", ["module", "optimizer", "surroundings"])
def test_a_state_with_strange_entries_is_refused_by_name(folder, tmp_path, name):
    shutil.copytree(folder, copy := tmp_path / "copy")
    number = tn.open(copy).best.number
    (path,) = (copy / "states").glob(f"{number:06d}-*.state")
    state = read(path)
    write(path, TrainState(state.epoch, state.values | {name: None}))
    if name != "optimizer":
        with pytest.raises(CheckpointError, match=f"trial {number}: its"):
            tn.open(copy).best.model(wide)
    if name != "surroundings":
        with pytest.raises(CheckpointError, match="the state after epoch 1 cannot be used"):
            make(copy, wide).best.model()


@tn.loop(epochs=1)
def loop(config, run):
    module = nn.Linear(1, 1)
    for _ in run.epochs(module=module):
        yield {"loss": config["x"]}


def test_what_only_the_code_can_make_is_refused(tmp_path):
    trained(tmp_path / "own", tn.Model(net, normalize=Centers(plain=True)))
    with pytest.raises(StudyError, match=r"trial \d cannot be made without the study's code.*cannot be made again"):
        tn.open(tmp_path / "own").best.model(net)
    with tn.Study(
        trainer=loop, space=tn.SearchSpace(x=tn.Float(0, 1)), folder=tmp_path / "loop", progress=False
    ) as own:
        own.run(trials=1)
    with pytest.raises(StudyError, match=r"was not trained by a tn.Trainer.*Make the tn.Study again"):
        tn.open(tmp_path / "loop").best.model(net)


def test_a_trial_of_a_function_has_no_module(tmp_path):
    tn.minimize(lambda x: x, tn.SearchSpace(x=tn.Float(0, 1)), trials=1, folder=tmp_path)
    with pytest.raises(StudyError, match=r"trial 0 has no model: it was not trained by a tn.Trainer"):
        tn.open(tmp_path).best.model(net)


class Softened(tn.Trainer):
    def module(self, job, state):
        return nn.Sequential(super().module(job, state), nn.Softmax(1))


def test_a_trainer_that_makes_the_module_by_itself_is_refused(tmp_path):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 1}
    space = tn.SearchSpace(optimizer={"lr": 0.1})
    with tn.Study(model=tn.Model(net), trainer=Softened(TABLE, TABLE, **settings), space=space, folder=tmp_path,
                  progress=False) as study:  # fmt: skip
        study.run(trials=1)
    with pytest.raises(StudyError, match="a method module of its own"):
        tn.open(tmp_path).best.model(net)


def test_a_failed_trial_has_no_module(tmp_path):
    with tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), minimize="loss", folder=tmp_path, progress=False) as study:
        study.tell(study.ask(), None, reason="out of luck")
    with pytest.raises(StudyError, match=r"trial 0 has no model: it is FAILED \(out of luck\)"):
        tn.open(tmp_path).result(0).model(net)


def test_normalizers_larger_than_the_module_are_not_kept_with_every_state(tmp_path, monkeypatch):
    monkeypatch.setattr("tuneflow.train.surroundings.SMALL", 4)
    columns = tn.Data(ROWS * torch.tensor([1.0, 10.0, 100.0, 1000.0]), CLASSES)
    trained(tmp_path / "large", lambda: nn.Sequential(nn.AvgPool1d(4), nn.Linear(1, 3)), columns)
    with pytest.raises(StudyError, match=r"its normalizer is larger than itself \(32 bytes\)"):
        tn.open(tmp_path / "large").best.model(net)
