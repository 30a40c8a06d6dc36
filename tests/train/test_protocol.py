"""The protocol of trainers: what a study does with one that defines no more than it has to."""

import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.errors import FingerprintError, StudyError
from tuneflow.train.protocol import Rehearsal, TrainerProtocol


class Descent(TrainerProtocol):
    """Halves a number every epoch; `init` and `advance` are all that it defines."""

    epochs = 2

    def init(self, job):
        return tn.types.TrainState(0, {"x": job.config["x"]})

    def advance(self, job, state, until):
        x = state.values["x"]
        for epoch in range(state.epoch + 1, until + 1):
            x /= 2
            yield tn.types.TrainState(epoch, {"x": x}), tn.types.Report(epoch, {"loss": abs(x)})


class Native(Descent):
    """Gives a module, rehearses, and writes its own format."""

    reports = ("loss",)

    def check(self, dry_run):
        self.checked = True

    def rehearse(self, job, dry_run):
        self.rehearsed = job.config
        return Rehearsal(["loss"])

    def module(self, job, state):
        module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(module.weight, state.values["x"])
        return module.eval()

    def test(self, job, module, data):
        return {"loss": tn.metrics.Measured(module(data).item(), 0.1)}

    def save(self, module, path):
        path.write_text(f"weight {module.weight.item():.3f}")
        return True


def make(trainer, **settings):
    space = tn.SearchSpace(x=tn.Float(1.0, 2.0))
    return tn.Study(space=space, trainer=trainer, progress=False, **settings)


def test_two_methods_are_enough_for_a_study():
    study = make(Descent())
    study.run(trials=3)
    assert [t.epochs for t in study.trials] == [2, 2, 2]
    assert study.best.metrics["loss"] == min(t.config["x"] for t in study.trials) / 4
    with pytest.raises(NotImplementedError, match="Descent gives no model"):
        study.best.model()
    study.trainer.module = lambda job, state: nn.Identity()
    with pytest.raises(StudyError, match="Descent has no metrics to test with"):
        study.test(torch.ones(1))


def test_a_default_description_is_stored_with_the_study(tmp_path):
    make(Descent(), folder=tmp_path).close()
    other = Descent()
    other.epochs = 3
    with pytest.raises(FingerprintError, match=r"trainer\.epochs was 2, now 3"):
        make(other, folder=tmp_path)


def test_a_trainer_without_the_two_methods_says_which_it_needs():
    class Empty(TrainerProtocol):
        pass

    job = tn.types.Job(None, {}, tn.Runtime("cpu"))
    with pytest.raises(NotImplementedError, match=r"Empty needs a method init\(job\)"):
        Empty().init(job)
    with pytest.raises(NotImplementedError, match=r"Empty needs a method advance\(job, state, until\)"):
        Empty().advance(job, tn.types.TrainState(0, {}), 1)


def test_a_trainer_is_asked_for_checks_tests_and_files_of_its_own(tmp_path):
    trainer = Native()
    study = make(trainer)
    assert trainer.checked
    assert not hasattr(trainer, "rehearsed")
    study.run(trials=2)
    assert 1.0 <= trainer.rehearsed["x"] <= 2.0
    x = study.best.config["x"] / 4
    assert study.test(torch.ones(1))["loss"].value == pytest.approx(x)
    study.best.save(tmp_path / "best.txt")
    assert (tmp_path / "best.txt").read_text() == f"weight {x:.3f}"


def test_replicas_ask_the_trainer_inside(tmp_path):
    study = make(Native(), replicas=2)
    study.run(trials=1)
    assert study.trainer.single is study.trainer.trainer
    assert study.trainer.reports == ("loss",)
    study.best.save(tmp_path / "best.txt")
    assert (tmp_path / "best.txt").read_text().startswith("weight")
    with pytest.raises(ValueError, match='maximize="accuracy" is not reported'):
        make(Native(), replicas=2, maximize="accuracy")


def test_a_trainer_that_keeps_no_protocol_is_refused():
    class Bare:
        init = advance = None

    for thing in (Bare(), Descent):
        with pytest.raises(TypeError, match=r"Study: trainer needs a tn\.Trainer"):
            make(thing)
