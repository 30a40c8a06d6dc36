"""Studies with cross-validation: the score, the dry run of every fold, resuming, workers, and the models."""

import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.errors import FingerprintError

ROWS = 64
INPUTS = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
CLASSES = (INPUTS @ torch.randn(4, 3, generator=torch.Generator().manual_seed(1))).argmax(1)
DATA = tn.Data(INPUTS, CLASSES)


def net(width=8):
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))


def trainer(data=DATA, folds=3, **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2, "batch_size": 16} | settings
    return tn.Trainer(data, folds=folds, **settings)


def study(ours=None, builder=net, **settings):
    settings = {"minimize": "loss", "progress": False, "runtime": tn.Runtime("cpu", threads=1)} | settings
    space = tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.5, log=True)})
    return tn.Study(space=space, model=tn.Model(builder), trainer=ours or trainer(), **settings)


def scores(study):
    return [(trial.config, trial.status, trial.metrics, trial.errors) for trial in study.trials]


def test_a_killed_study_resumes_exactly_within_the_folds(tmp_path):
    whole, folder = study(), tmp_path / "study"
    whole.run(trials=3)
    with study(folder=folder) as first:
        first.run(trials=3, epochs=3)
    with study(folder=folder) as again:
        assert [trial.epochs for trial in again.trials] == [2, 1]
        again.run(trials=3)
        assert scores(again) == scores(whole)


def test_a_study_with_other_folds_is_refused(tmp_path):
    study(folder=tmp_path).close()
    with pytest.raises(FingerprintError, match=r"trainer.data.folds.number was 3, now 4"):
        study(trainer(folds=4), folder=tmp_path)


def test_confirm_trains_fresh_seeds_over_the_same_folds():
    ours = study(replicas=2)
    ours.run(trials=2)
    confirmed = ours.confirm(top=1, seeds=2).confirmed
    assert confirmed.seeds == 2
    assert confirmed.metrics["loss"] != ours.best.metrics["loss"]


# The dry run.


def test_a_row_of_any_fold_is_checked():
    inputs = INPUTS.clone()
    inputs[63] = torch.nan
    with pytest.raises(ValueError, match="NaN or inf in train inputs: 1 of 64 rows, the first is row 63"):
        study(trainer((inputs, CLASSES)))


def test_a_last_batch_of_one_row_is_found_in_every_fold():
    def normed():
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    folds = [(range(40), range(40, 64)), (range(31, 64), range(31))]
    with pytest.raises(ValueError, match="33 rows in fold 1 in batches of 16 leave one for the last batch"):
        study(trainer(folds=folds), normed)
    assert study(trainer(folds=[folds[0], (range(30, 64), range(30))]), normed)


@pytest.mark.parametrize(
    ("targets", "loss", "outputs"),
    [(CLASSES, nn.CrossEntropyLoss(), 3), ((CLASSES == 1).float()[:, None], nn.BCEWithLogitsLoss(), 1)],
)
def test_a_class_that_a_fold_never_trains_on_is_named(targets, loss, outputs):
    one = (CLASSES == 1).numpy()
    with pytest.warns(UserWarning, match="fold 1 is scored on class 1 in targets, and none of its training rows"):
        study(trainer((INPUTS, targets), [(range(40), range(40, 64)), (~one, one)], loss=loss),
              lambda: nn.Linear(4, outputs))  # fmt: skip


def test_a_class_that_the_loss_ignores_is_not_named():
    one = (CLASSES == 1).numpy()
    study(trainer((INPUTS, torch.where(CLASSES == 1, -100, CLASSES)), [(range(40), range(40, 64)), (~one, one)]))
