"""Sanitizers as steps of a model: in training, scores, the trained module, forks, files and programs."""

import pickle
import warnings

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.trainer_runs import facts, flat, run, through_file
from tuneflow.compress.operations import Sanitize, operations_of
from tuneflow.compress.winner import record_of, winner_of
from tuneflow.harden import MedianFilter, Rounding
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.threat import Threat
from tuneflow.heuristics.input_scaling import NormalizedModule
from tuneflow.heuristics.sanitizing import RoundedInputs, SanitizedInputs
from tuneflow.measure.structure_key import structure_key
from tuneflow.study.exported import export_model
from tuneflow.study.saved_model import save_model

TRAIN, VALID, _ = tn.data.digits()
TRAIN, VALID = TRAIN[:96], VALID[:48]

STEPS = {"rounding": Rounding(bits=2), "median": MedianFilter(size=3)}
every_step = pytest.mark.parametrize("step", STEPS.values(), ids=list(STEPS))


def net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(4 * 36, 10)
    )


def table_net():
    return nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))


def trainer(data=(TRAIN, VALID), **settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 2} | settings
    return tn.Trainer(*data, metrics={"accuracy": tn.metrics.accuracy}, **settings)


def job(*steps, source=net, runtime=None, **settings):
    named = {f"step{number}": step for number, step in enumerate(steps)}
    model = tn.Model(source, steps=named, **settings.pop("model", {}))
    return tn.types.Job(model, {"optimizer": {"lr": 0.1}}, runtime or tn.Runtime("cpu", threads=1), **settings)


def cleaned(step, inputs, box=(0.0, 16.0)):
    """What the step makes of raw inputs."""
    rows = tn.compress.StepRows(inputs[:2], None, None, lambda: box)
    (operation,) = step.operations(nn.Identity(), rows)
    return operation.module()(inputs)


def trained(task, ours=None):
    ours = ours or trainer()
    state, reports = run(ours, task)
    return ours.module(task, state), reports


@every_step
def test_training_sees_cleaned_rows_and_so_does_the_trained_module(step):
    module, reports = trained(job(step))
    by_hand = [tn.Data(cleaned(step, data.inputs), data.targets) for data in (TRAIN, VALID)]
    normalizer = module.normalizer.normalizer
    fixed = type("Fixed", (), {"fit": lambda _self, _inputs: normalizer})()
    other, expected = trained(job(model={"normalize": fixed}), trainer(by_hand))
    assert facts(reports) == facts(expected)
    assert torch.equal(module(VALID.inputs), other(by_hand[1].inputs))


@every_step
def test_training_resumes_exactly(step):
    through, reports = run(trainer(), job(step))
    half, first = run(trainer(), job(step), 1)
    rest, later = run(trainer(), job(step), 2, through_file(half))
    assert facts([*first, *later]) == facts(reports)
    assert flat(rest.values["module"]) == flat(through.values["module"])


class Center:
    """A normalization of one's own, which keeps the shape."""

    def fit(self, inputs):
        front = nn.BatchNorm2d(1, affine=False)
        front.running_mean.fill_(inputs.mean())
        return front


@every_step
@pytest.mark.parametrize("kind", [True, False, "minmax", Center], ids=["standard", "none", "minmax", "own"])
def test_modules_come_back_from_a_file_as_they_were(step, kind, tmp_path):
    data, builder = (TRAIN, VALID), tn.Model(net, normalize=kind)
    module, _ = trained(job(step, model={"normalize": kind}))
    save_model(tmp_path / "m.pt", module, {}, VALID.inputs[:4])
    loaded = tn.load(tmp_path / "m.pt", builder)
    assert torch.equal(loaded(data[1].inputs), module(data[1].inputs))
    assert [each.to_values() for each in record_of(loaded).operations] == [
        each.to_values() for each in record_of(module).operations
    ]


@every_step
def test_int8_is_converted_behind_the_cleaning_of_bytes(step, tmp_path):
    data = [tn.Data((15.9 * each.inputs).byte(), each.targets) for each in (TRAIN, VALID)]
    module, reports = trained(job(tn.compress.Arithmetic("int8"), step), trainer(data, epochs=1))
    right = (module(data[1].inputs).argmax(1) == VALID.targets).double().mean()
    assert reports[-1].metrics["accuracy"] == pytest.approx(float(right))
    assert torch.equal(module(data[1].inputs), module.module(module.normalizer(data[1].inputs)))
    assert set(AttackedModule(module).forms) == {"float", "straight-through"}
    save_model(tmp_path / "m.pt", module, {})
    assert torch.equal(tn.load(tmp_path / "m.pt", net)(data[1].inputs), module(data[1].inputs))


@every_step
def test_programs_clean_raw_inputs(step, tmp_path):
    module, _ = trained(job(step), trainer(epochs=1))
    export_model(tmp_path / "m.pt", module, [VALID.inputs[:5]], {})
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        program = torch.jit.load(tmp_path / "m.pt")
    torch.testing.assert_close(program(VALID.inputs), module(VALID.inputs))


def test_measures_of_structure_tell_filters_apart_and_not_levels():
    tasks = [job(step) for step in (Rounding(2), Rounding(3), MedianFilter(3))]
    bodies = [trainer().module(task, trainer().init(task)) for task in tasks]
    keys = [structure_key(module) for module in (*bodies, bodies[0].module)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_a_loss_of_raw_inputs_and_an_augmentation_meet_cleaned_rows():
    for settings in ({"loss": tn.harden.TRADES(0.1, steps=1)}, {"augment": torch.nn.Identity()}):
        module, reports = trained(job(Rounding(1)), trainer(epochs=1, **settings))
        right = (module(VALID.inputs).argmax(1) == VALID.targets).double().mean()
        assert reports[-1].metrics["accuracy"] == pytest.approx(float(right))


def test_a_fork_keeps_what_its_winner_cleans_and_replaces_what_it_cleans_anew():
    winner, _ = trained(job(MedianFilter(3), Rounding(2)))
    same, _ = trained(job(source=winner))
    assert repr(same.normalizer) == repr(winner.normalizer)
    anew, _ = trained(job(Rounding(5), source=same))
    kinds = [(each.kind, *each.settings.values()) for each in anew.normalizer.sanitizers]
    assert kinds == [("median", 3), ("rounding", 0.0, 16.0, 32.0)]
    assert torch.equal(anew.normalizer.normalizer.mean, winner.normalizer.normalizer.mean)


class Looking:
    """A step that changes nothing; keeps the rows that it is shown."""

    rows = None

    def operations(self, module, rows):
        Looking.rows = next(rows.batches(96, 1))[0]
        return []


def test_other_steps_see_cleaned_rows_whatever_their_order():
    module, _ = trained(job(Looking(), Rounding(1)))
    seen = module.normalizer.normalizer.mean, module.normalizer.normalizer.std
    assert len((Looking.rows * seen[1] + seen[0]).round().unique()) == 2


def test_initialization_is_corrected_on_cleaned_rows():
    scheme = {"normalize": True, "init": "lecun"}
    one, other = (trainer().init(job(*step, model=scheme)) for step in ([Rounding(1)], []))
    assert flat(one.values["module"]) != flat(other.values["module"])


def test_levels_lie_in_the_range_of_the_training_rows_of_each_fold():
    low = tn.Data(TRAIN.inputs / 4, TRAIN.targets)
    both = tn.Data(torch.cat([TRAIN.inputs, low.inputs]), torch.cat([TRAIN.targets] * 2))
    folded = tn.Trainer(
        both, folds=[(range(96), range(96, 192)), (range(96, 192), range(96))], epochs=1,
        loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD,
    )  # fmt: skip
    states = [folded.init(job(Rounding(2), fold=fold)) for fold in (0, 1)]
    assert [state.values["recipe"][0]["settings"]["high"] for state in states] == [16.0, 4.0]


def test_none_leaves_a_step_out():
    choice = tn.Choice({"none": None, "rounding": tn.call(Rounding, bits=tn.Int(1, 3)), "median": MedianFilter(3)})
    study = tn.Study(
        model=tn.Model(net, steps={"sanitize": Rounding}), trainer=trainer(epochs=1), searcher=tn.Grid(),
        space=tn.SearchSpace(optimizer={"lr": 0.1}, sanitize=choice), maximize="accuracy", progress=False,
        folder=tn.Folder(None, keep="all"),
    )  # fmt: skip
    study.run()
    modules = [study.result(trial.number).model() for trial in study.trials]
    kinds = [type(module.normalizer).__name__ for module in modules]
    assert sorted(kinds) == ["Normalizer", *["SanitizedInputs"] * 4]
    assert len({trial.metrics["loss"] for trial in study.trials}) == 5


ATTACKS = {"fgsm": tn.harden.FGSM, "pgd": tn.harden.PGD, "fast": tn.harden.Fast}


@pytest.mark.parametrize("name", list(ATTACKS))
def test_training_with_attacks_moves_rows_past_rounding(name):
    module, _ = trained(job(Rounding(1)), trainer(epochs=1))
    moved, _ = ATTACKS[name](0.2, box=(0, 16))(module.eval(), VALID.inputs, VALID.targets)
    losses = [nn.functional.cross_entropy(module(rows), VALID.targets) for rows in (VALID.inputs, moved)]
    assert losses[1] > losses[0] + 0.15


def test_compiled_module_is_attacked_straight_through():
    module = nn.Sequential(RoundedInputs(0, 1, 2), nn.Linear(4, 2))
    form = AttackedModule(torch.compile(module, backend="eager")).forms["straight-through"]
    rows = torch.rand(2, 4, requires_grad=True)
    form(rows)[:, 0].sum().backward()
    assert (rows.grad == module[1].weight[0]).all()


def test_trades_ascends_past_rounding():
    module, _ = trained(job(Rounding(1)), trainer(epochs=1))
    batch = VALID.inputs, VALID.targets
    near, far = (tn.harden.TRADES(eps, box=(0, 16)).loss_of(module.eval(), batch) for eps in (1e-6, 0.2))
    assert far > near + 0.1


def test_rounding_withstands_its_own_gradient_alone_and_a_filter_the_straight_one_better():
    data = tn.data.digits()[0]
    left = {}
    for name, step in STEPS.items():
        module, _ = trained(job(step), trainer((data, VALID), batch_size=64, epochs=2))
        attacked, threat = AttackedModule(module), Threat(0.1, "linf", (0.0, 16.0))
        for form in attacked.forms:
            with attacked.evaluating():
                moved = tn.harden.PGD(0.1, steps=7).perturb(attacked, form, VALID.inputs, VALID.targets, threat)
            left[name, form] = float((attacked.logits(moved).argmax(1) == VALID.targets).double().mean())
    assert left["rounding", "own"] > left["rounding", "straight-through"] + 0.1
    assert left["median", "own"] < left["median", "straight-through"] - 0.05


@every_step
def test_pickled_modules_and_recipes_come_back(step):
    module, _ = trained(job(step), trainer(epochs=1))
    again = pickle.loads(pickle.dumps(module))
    assert torch.equal(again(VALID.inputs), module(VALID.inputs))
    (operation,) = (each for each in record_of(module).operations if isinstance(each, Sanitize))
    (other,) = operations_of([operation.to_values()])
    assert other.to_values() == operation.to_values()


def test_fingerprint_of_a_winner_has_its_sanitizers():
    cleaning = [SanitizedInputs([RoundedInputs(0, 16, levels)], None) for levels in (2, 2, 4)]
    digests = [winner_of(NormalizedModule(nn.Identity(), each)).digest for each in cleaning]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("step", "settings", "words"),
    [
        (Rounding, {"bits": 0}, "bits needs to be a whole number >= 1"),
        (Rounding, {"bits": 17}, "bits needs to be at most 16"),
        (Rounding, {"box": (3, 1)}, "box needs a pair"),
        (MedianFilter, {"size": 4}, "size needs to be an odd number of pixels, got 4"),
    ],
)
def test_settings_out_of_range_are_refused(step, settings, words):
    with pytest.raises(ValueError, match=words):
        step(**settings)


class Codes(nn.Module):
    def __init__(self):
        super().__init__()
        self.codes, self.linear = nn.Embedding(20, 4), nn.Linear(4 + 63, 10)

    def forward(self, x):
        return self.linear(torch.cat([self.codes(x[:, 0].long()), x[:, 1:]], 1))


IMAGES = TRAIN.inputs
REFUSED = {
    "tokens": (Rounding(2), IMAGES.flatten(1).long(), net, "which may be tokens"),
    "byte tokens": (Rounding(2), TRAIN.targets.byte(), net, "which may be tokens"),
    "several": (Rounding(2), {"x": IMAGES}, net, "needs? to be one tensor"),
    "box": (Rounding(2, box=(0, 1)), IMAGES, net, r"box needs to hold all inputs.*\(0, 1\) for inputs from 0 to 16"),
    "codes": (Rounding(2), IMAGES.flatten(1), Codes, r"looks at its inputs by value, with long\(\)"),
    "no images": (MedianFilter(3), IMAGES.flatten(1), table_net, r"images of shape .*, got \(64,\)"),
    "range beyond float32": (Rounding(3, box=(-3e38, 3e38)), IMAGES, net, "8 levels need inputs of at most 2.1e[+]37"),
    "small": (MedianFilter(17), IMAGES, net, "size needs to be at most 15 for images of 8 x 8"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_inputs_that_cannot_be_cleaned_are_refused(case):
    step, inputs, builder, words = REFUSED[case]
    data = tn.Data(inputs, TRAIN.targets)
    with pytest.raises((ValueError, TypeError), match=words):
        trainer((data, data)).init(job(step, source=builder))


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"size": 4}, "odd number, got 4"), ({"sizes": 3}, "\"median\" with {'sizes': 3}.*unexpected keyword")],
    ids=["even", "unknown"],
)
def test_step_of_a_user_with_wrong_settings_is_named(settings, words):
    class Own:
        sanitizes = True

        def operations(self, module, rows):
            return [Sanitize("median", settings)]

    with pytest.raises(ValueError, match=words) as caught:
        trainer().init(job(Own()))
    assert caught.value.__notes__ == ['step "step0"']


@pytest.mark.parametrize(
    ("steps", "words"),
    [([Rounding(2), Rounding(3)], "may sanitize by each kind once"), ([Looking], "needs the attribute sanitizes")],
)
def test_steps_that_do_not_fit_together_are_refused(steps, words):
    class Hidden:
        def operations(self, module, rows):
            return [Sanitize("median", {"size": 3})]

    chosen = [Hidden()] if steps == [Looking] else steps
    with pytest.raises((ValueError, TypeError), match=words):
        trainer().init(job(*chosen))
