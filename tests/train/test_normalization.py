"""Normalization as a tuned part: fitted on training rows, inside the model, saved, and refused where it harms."""

import copy

import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.heuristics.by_part import PartNormalizer
from tuneflow.heuristics.input_scaling import NormalizedModule
from tuneflow.heuristics.whitening import Whitening

generator = torch.Generator().manual_seed(0)
TABLE = torch.randn(160, 4, generator=generator) @ torch.randn(4, 4, generator=generator) * 30 + 100
CLASSES = (TABLE[:, 0] > TABLE[:, 1]).long()
TRAIN, VALID = tn.Data(TABLE[:96], CLASSES[:96]), tn.Data(TABLE[96:] + 1000, CLASSES[96:])
RATE = {"lr": tn.Float(0.01, 0.5, log=True)}


def net(width=4):
    return nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, 2))


class Components:
    """The first principal components of the training rows, as a linear layer."""

    def __init__(self, count=2):
        self.count = count

    def fit(self, inputs):
        mean = inputs.mean(0)
        _, _, directions = torch.linalg.svd(inputs - mean, full_matrices=False)
        front = nn.Linear(inputs.shape[1], self.count)
        front.weight.data.copy_(directions[: self.count])
        front.bias.data.copy_(-directions[: self.count] @ mean)
        return front


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.look_up, self.net = nn.Embedding(5, 4), net()

    def forward(self, numbers, codes):
        return self.net(numbers + self.look_up(codes))


def study(model, data=(TRAIN, VALID), space=None, seed=0, runtime=None, folder=None, **trainer):
    trainer = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2} | trainer
    return tn.Study(
        model=model if isinstance(model, tn.Model) else tn.Model(model),
        trainer=tn.Trainer(*data, **trainer),
        space=tn.SearchSpace(**{"optimizer": RATE} | (space or {})),
        runtime=runtime or tn.Runtime("cpu", threads=1),
        seed=seed,
        folder=folder,
        progress=False,
    )


def nested(rows):
    return tn.Data({"numbers": rows.inputs, "codes": torch.arange(len(rows)) % 5}, rows.targets)


KINDS = {
    "whiten": ("whiten", net, (TRAIN, VALID)),
    "minmax": ("minmax", net, (TRAIN, VALID)),
    "robust": ("robust", net, (TRAIN, VALID)),
    "columns": ([0, 2], net, (TRAIN, VALID)),
    "parts": (["numbers"], Parts, (nested(TRAIN), nested(VALID))),
    "kinds by column": ({0: "minmax", (1, 2): "whiten"}, net, (TRAIN, VALID)),
    "kinds by part": ({"numbers": "whiten"}, Parts, (nested(TRAIN), nested(VALID))),
    "object": (Components(2), lambda: net(2), (TRAIN, VALID)),
    "class": (Components, lambda: net(2), (TRAIN, VALID)),
}
every_kind = pytest.mark.parametrize(("kind", "builder", "data"), KINDS.values(), ids=KINDS.keys())


def first(rows, count):
    return {name: part[:count] for name, part in rows.items()} if isinstance(rows, dict) else rows[:count]


@every_kind
def test_normalizer_is_fitted_to_training_rows_and_comes_back_with_the_model(kind, builder, data, tmp_path):
    model = tn.Model(builder, normalize=kind)
    ours = study(model, data)
    ours.run(trials=1)
    module = ours.best.model()
    assert isinstance(module, NormalizedModule)
    elsewhere = study(model, (data[0], data[0]))  # other validation rows
    elsewhere.run(trials=1)
    for name, tensor in elsewhere.best.model().normalizer.state_dict().items():
        assert torch.equal(tensor, module.normalizer.state_dict()[name])
    ours.best.save(tmp_path / "best.pt")
    loaded = tn.load(tmp_path / "best.pt", model)
    rows = first(data[1].inputs, 5)
    assert torch.equal(loaded(rows), module(rows))
    assert ours.test(data[1])["loss"].value == pytest.approx(ours.best.metrics["loss"], rel=1e-4)


def test_normalizers_of_ours_load_with_the_builder_alone(tmp_path):
    for kind in ("whiten", [1]):
        ours = study(tn.Model(net, normalize=kind))
        ours.run(trials=1)
        ours.best.save(tmp_path / "best.pt")
        assert torch.equal(tn.load(tmp_path / "best.pt", net)(TABLE), ours.best.model()(TABLE))


def test_object_is_needed_again_to_load_what_it_fitted(tmp_path):
    ours = study(tn.Model(lambda: net(2), normalize=Components(2)))
    ours.run(trials=1)
    ours.best.save(tmp_path / "best.pt")
    with pytest.raises(ValueError, match=r"normalized by Components\(count=2\), which only its class can make again"):
        tn.load(tmp_path / "best.pt", lambda: net(2))
    with pytest.raises(ValueError, match=r"Components\(count=3\) fits a module of other tensors"):
        tn.load(tmp_path / "best.pt", tn.Model(lambda: net(2), normalize=Components(3)))


def test_fit_that_hides_numbers_from_the_file_is_not_saved(tmp_path):
    class Shift(nn.Module):
        def __init__(self, mean):
            super().__init__()
            self.mean = mean

        def forward(self, inputs):
            return inputs - self.mean

    class Hidden:
        def fit(self, inputs):
            return Shift(inputs.mean(0))

    ours = study(tn.Model(net, normalize=Hidden()))
    ours.run(trials=1)
    with pytest.raises(ValueError, match=r"cannot be made again from its tensors.* register_buffer keeps"):
        ours.best.save(tmp_path / "best.pt")


def test_object_that_stores_its_fit_is_left_as_it_was(tmp_path):
    class Storing(Components):
        def fit(self, inputs):
            self.rows_ = len(inputs)
            return super().fit(inputs)

    for trials in (1, 2):  # the second time as the script is run again
        kind = Storing(2)
        study(tn.Model(lambda: net(2), normalize=kind), folder=tmp_path / "kept").run(trials=trials)
        assert vars(kind) == {"count": 2}


def test_fit_that_fails_is_named_before_trial_0():
    class Failing:
        def fit(self, inputs):
            raise ArithmeticError("no")

    with pytest.raises(ValueError, match=r"normalize=Failing.*: fit fails on the training rows: ArithmeticError: no"):
        study(tn.Model(net, normalize=Failing()))


# The section.

CHOICE = {"none": False, "standard": True, "whiten": "whiten", "columns": [1, 3]}
SPACES = {
    "kind": {"kind": tn.Choice(["whiten", "robust"])},
    "whole": tn.Choice(CHOICE),
    "labels": tn.Choice([True, False, "minmax"]),
    "one": "whiten",
}


@pytest.mark.parametrize("section", SPACES.values(), ids=SPACES.keys())
def test_section_chooses_the_kind_and_the_model_has_it(section, tmp_path):
    ours = study(net, space={"normalize": section}, epochs=1, folder=tmp_path / "study")
    ours.run(trials=6)
    for trial in ours.trials:
        kind = ours.model.normalization(ours.space.resolve(trial.config))
        assert trial.status == "DONE"
        module = ours.result(trial.number).model() if trial.number == ours.best.number else None
        if module is not None:
            assert isinstance(module, NormalizedModule) is (kind is not False)
            assert isinstance(getattr(module, "normalizer", None), Whitening) is (kind == "whiten")


def test_arguments_of_a_class_with_fit_are_tuned():
    ours = study(tn.Model(lambda: nn.LazyLinear(2), normalize=Components), space={"normalize": {"count": tn.Int(1, 4)}})
    ours.run(trials=4)
    counts = {trial.config["normalize"]["count"] for trial in ours.trials}
    assert len(counts) > 1
    assert ours.best.model().normalizer.out_features == ours.best.config["normalize"]["count"]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"kin": "whiten"}, 'Did you mean "kind"'),
        ({"kind": "whitten"}, 'Did you mean "whiten"'),
        ({"numbers": "minmax"}, 'Model(builder, normalize={"numbers": ...})'),
        ("mean", "got 'mean'"),
    ],
)
def test_wrong_sections_are_refused(section, words):
    with pytest.raises((ValueError, TypeError)) as raised:
        study(net, space={"normalize": section})
    assert words in str(raised.value)


def test_tuned_normalization_resumes_exactly(tmp_path):
    space = {"normalize": tn.Choice(CHOICE)}
    whole, first_part = study(net, space=space, seed=3), study(net, space=space, seed=3, folder=tmp_path)
    whole.run(trials=4)
    first_part.run(trials=4, epochs=3)
    first_part.close()
    rest = study(net, space=space, seed=3, folder=tmp_path)
    rest.run(trials=4)
    assert [t.metrics for t in rest.trials] == [t.metrics for t in whole.trials]


def test_lanes_of_several_kinds_score_as_alone():
    space = {"normalize": tn.Choice(CHOICE)}
    alone = study(net, space=space, seed=1)
    together = study(net, space=space, seed=1, runtime=tn.Runtime("cpu", threads=1, lanes=4))
    alone.run(trials=8)
    together.run(trials=8)
    for one, other in zip(alone.trials, together.trials, strict=True):
        assert other.metrics["loss"] == pytest.approx(one.metrics["loss"], rel=1e-4)


def test_normalizer_of_an_object_shows_in_the_fingerprint(tmp_path):
    first = study(tn.Model(lambda: net(2), normalize=Components(2)), folder=tmp_path)
    first.close()
    study(tn.Model(lambda: net(2), normalize=Components(2)), folder=tmp_path).close()
    with pytest.raises(tn.errors.FingerprintError, match=r"normalize=Components\(count=1\)"):
        study(tn.Model(lambda: net(1), normalize=Components(1)), folder=tmp_path)


# Modules that look at their inputs by value.


class Codes(nn.Module):
    """Looks up a code in column 0, and has a linear layer for the others."""

    def __init__(self):
        super().__init__()
        self.look_up, self.linear = nn.Embedding(5, 2), nn.Linear(4, 2)

    def forward(self, x):
        return self.look_up(x[:, 0].long()) + self.linear(x[:, 1:])


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(torch.where(x == 0, -1.0, x))


CODED = tn.Data(torch.cat([torch.arange(96)[:, None] % 5, TABLE[:96]], 1), CLASSES[:96])


def test_column_that_is_looked_up_is_left_alone():
    ours = study(Codes, (CODED, CODED))
    ours.run(trials=1)
    normalizer = ours.best.model().normalizer
    assert torch.equal(normalizer(CODED.inputs)[:, 0], CODED.inputs[:, 0])
    assert normalizer(CODED.inputs)[:, 1:].mean(0).abs().max() < 1e-4


def test_columns_that_are_looked_up_in_sequences_are_left_alone():
    steps = tn.Data(torch.stack([CODED.inputs, CODED.inputs], 1), CLASSES[:96])
    ours = study(lambda: nn.Sequential(First(), Codes()), (steps, steps))
    ours.run(trials=1)
    assert torch.equal(ours.best.model().normalizer(steps.inputs)[..., 0], steps.inputs[..., 0])


class First(nn.Module):
    def forward(self, x):
        return x[:, 0]


@pytest.mark.parametrize("kind", [True, "whiten", "minmax", "robust", [0]])
def test_module_that_looks_at_all_values_is_refused_with_the_way_out(kind):
    words = r"by value, with == \(test_normalization.py, line \d+\).*normalize=.*pass tn.Model\(..., normalize=False\)"
    with pytest.raises(ValueError, match=words):
        study(tn.Model(Masked, normalize=kind))


@pytest.mark.parametrize("kind", [False, True, Components(4)])
def test_module_that_looks_at_values_trains_where_they_are_its_own(kind):
    standard = (TABLE - TABLE.mean(0)) / TABLE.std(0)
    data = (standard, CLASSES) if kind is True else TRAIN
    ours = study(tn.Model(Masked, normalize=kind), (data, data))
    ours.run(trials=1)
    assert ours.trials[0].status == "DONE"


def test_columns_beside_those_that_are_looked_up_may_be_named():
    ours = study(tn.Model(Codes, normalize=[1, 2]), (CODED, CODED))
    ours.run(trials=1)
    assert torch.equal(ours.best.model().normalizer(CODED.inputs)[:, [0, 3, 4]], CODED.inputs[:, [0, 3, 4]])
    with pytest.raises(ValueError, match=r"normalize=\[0, 1\] would change those values"):
        study(tn.Model(Codes, normalize=[0, 1]), (CODED, CODED))


# Modules that bring a normalizer.


@pytest.fixture(scope="module")
def winner():
    ours = study(net)
    ours.run(trials=1)
    return ours.best.model()


def test_winner_of_another_study_is_not_normalized_twice(winner, tmp_path):
    def again():
        return copy.deepcopy(winner)

    ours = study(again)
    ours.run(trials=1)
    module = ours.best.model()
    assert not isinstance(module.module, NormalizedModule)
    assert torch.equal(module.normalizer.mean, winner.normalizer.mean)
    ours.best.save(tmp_path / "best.pt")
    assert torch.equal(tn.load(tmp_path / "best.pt", again)(TABLE), module(TABLE))


def test_another_kind_in_front_of_a_normalizer_is_refused(winner):
    with pytest.raises(ValueError, match=r"brings a normalizer of its own.*leave normalize out"):
        study(tn.Model(lambda: copy.deepcopy(winner), normalize="whiten"))


def test_winner_of_a_regression_keeps_its_scales_once(tmp_path):
    data = tn.Data(TABLE, TABLE[:, :1] * 3 + 5)
    settings = {"loss": nn.MSELoss(), "data": (data, data)}
    ours = study(lambda: nn.Linear(4, 1), **settings)
    ours.run(trials=1)
    best = ours.best.model()
    second = study(lambda: copy.deepcopy(best), **settings)
    second.run(trials=1)
    second.best.save(tmp_path / "best.pt")
    loaded = tn.load(tmp_path / "best.pt", lambda: copy.deepcopy(best))
    assert torch.equal(loaded(TABLE), second.best.model()(TABLE))
    assert [type(part).__name__ for part in loaded.modules()] == [type(part).__name__ for part in best.modules()]


def test_parts_are_normalized_in_front_of_the_arguments_of_forward():
    ours = study(tn.Model(Parts, normalize=["numbers"]), (nested(TRAIN), nested(VALID)))
    ours.run(trials=1)
    module = ours.best.model()
    assert isinstance(module.normalizer, PartNormalizer)
    inputs = nested(TRAIN).inputs
    assert torch.equal(module(**inputs), module(inputs))


def test_kinds_by_part_are_tuned_in_the_section():
    model = tn.Model(Parts, normalize={"numbers": True})
    assert repr(model.normalization({"normalize": {"numbers": "robust"}})) == "{'numbers': 'robust'}"
    ours = study(model, (nested(TRAIN), nested(VALID)), space={"normalize": {"numbers": tn.Choice([True, "whiten"])}})
    ours.run(trials=1)
    whitened = ours.best.config["normalize"]["numbers"] == "whiten"
    assert isinstance(ours.best.model().normalizer.parts[0], Whitening) is whitened


@pytest.mark.parametrize("kind", [True, "whiten", "minmax", "robust"])
def test_columns_that_are_looked_at_are_left_alone_by_every_kind(kind):
    class LooksUp(nn.Module):
        def __init__(self):
            super().__init__()
            self.codes, self.net = nn.Embedding(3, 2), net(2 + len(TABLE[0]))

        def forward(self, x):
            return self.net(torch.cat([self.codes(x[:, 0].long()), x[:, 1:]], 1))

    table = torch.cat([(torch.arange(len(TABLE)) % 3)[:, None].float(), TABLE], 1)
    data = tn.Data(table, torch.arange(len(TABLE)) % 2)
    ours = study(tn.Model(LooksUp, normalize=kind), (data, data))
    ours.run(trials=1)
    values = ours.best.model().normalizer(table)
    assert torch.equal(values[:, 0], table[:, 0])
    assert not torch.allclose(values[:, 1:], table[:, 1:])


def test_part_that_is_looked_up_is_not_normalized():
    class LooksUp(Parts):
        def forward(self, numbers, codes):
            return super().forward(numbers, codes * (numbers[:, 0] > 0))

    words = r"by value, with > \(test_normalization.py.*normalize=\['numbers'\] would change"
    with pytest.raises(ValueError, match=words):
        study(tn.Model(LooksUp, normalize=["numbers"]), (nested(TRAIN), nested(VALID)))


@pytest.mark.parametrize("kind", [True, "whiten", "robust"])
def test_each_fold_has_a_normalizer_of_its_own(kind):
    data = tn.Data(torch.cat([TABLE[:40], TABLE[40:80] + 500]), torch.arange(80) % 2)
    rows = [(torch.arange(40), torch.arange(40, 80)), (torch.arange(40, 80), torch.arange(40))]
    trainer = tn.Trainer(data, folds=rows, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=1)
    job = tn.types.Job(tn.Model(net, normalize=kind), {"optimizer": {"lr": 0.1}}, tn.Runtime("cpu"))
    fitted = [trainer.configured(job.config).session(tn.types.Job(*job_of(job, fold))).normalizer for fold in (0, 1)]
    assert (fitted[1].mean - fitted[0].mean).abs().min() > 100


def job_of(job, fold):
    return job.model, job.config, job.runtime, job.seed, job.replica, job.trial, fold
