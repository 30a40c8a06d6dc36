"""Losses of every kind: functions, modules with parameters and buffers, and objects with `loss_of`."""

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tuneflow as tn
from tests.helpers.projected_loss import Projected
from tests.helpers.trainer_runs import facts, flat, run, through_file
from tuneflow.data.orders import Shuffled
from tuneflow.train.loss_object import placed

DRAWS = torch.Generator().manual_seed(0)
X = torch.randn(40, 6, generator=DRAWS)
Y = (X @ torch.randn(6, 3, generator=DRAWS)).argmax(1)
RUNTIME = tn.Runtime("cpu", threads=1)
LR = {"optimizer": {"lr": 0.1}}


def net():
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def trainer(loss, kind=tn.Trainer, **settings):
    settings = {"optimizer": torch.optim.SGD, "epochs": 2, "batch_size": 8} | settings
    return kind((X, Y), (X[:30], Y[:30]), loss=loss, **settings)


def job(config=LR, builder=net, **more):
    return tn.types.Job(tn.Model(builder, normalize=False), config, RUNTIME, **more)


def study(loss, space=None, **settings):
    space = tn.SearchSpace(**({"optimizer": {"lr": tn.Float(0.01, 0.2)}} if space is None else space))
    return tn.Study(
        model=tn.Model(net), trainer=trainer(loss), space=space, runtime=RUNTIME, progress=False, **settings
    )


def penalty(module, strength):
    return strength * sum(p.square().sum() for p in module.parameters())


class Penalized:
    """An object with `loss_of` and nothing else."""

    def __init__(self, strength=0.01):
        self.strength = strength

    def loss_of(self, module, batch):
        return F.cross_entropy(module(batch[0]), batch[1]) + penalty(module, self.strength)


class PenalizedTrainer(tn.Trainer):
    def loss_of(self, module, batch):
        return super().loss_of(module, batch) + penalty(module, 0.01)


class Contrastive(nn.Module):
    """A module with `loss_of` and no forward: rows of one class lie close to each other."""

    def loss_of(self, module, batch):
        rows, same = module(batch[0]), batch[1][:, None] == batch[1]
        distances = (rows[:, None] - rows).square().sum(-1)
        return torch.where(same, distances, F.relu(1 - distances)).mean()


class Distilled:
    """A student that learns from a teacher, which is no part of what is trained."""

    def __init__(self):
        self.teacher = nn.Linear(6, 3).requires_grad_(False)

    def loss_of(self, module, batch):
        return F.kl_div(module(batch[0]).log_softmax(1), self.teacher(batch[0]).softmax(1), reduction="batchmean")


class Both(Penalized):
    """A penalty in training, the plain loss in evaluation."""

    def __call__(self, outputs, targets):
        return F.cross_entropy(outputs, targets)


class Head(nn.Module):
    """A loss with parameters: learned prototypes of the classes."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.prototypes, self.scale = nn.Parameter(torch.randn(3, 3)), scale

    def forward(self, outputs, targets):
        return F.cross_entropy(self.scale * outputs @ self.prototypes.T, targets)


class Centers(nn.Module):
    """A loss with buffers that training changes, and evaluation does not: the mean output of each class."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centers", torch.zeros(3, 3))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, outputs, targets):
        if self.training:
            with torch.no_grad():
                self.centers.index_put_((targets,), 0.9 * self.centers[targets] + 0.1 * outputs)
                self.steps += 1
        return F.cross_entropy(outputs, targets) + 0.1 * F.mse_loss(outputs, self.centers[targets])


class Queue(nn.Module):
    """A loss whose buffer grows, up to 20 rows."""

    def __init__(self):
        super().__init__()
        self.register_buffer("queue", torch.zeros(1, 3))

    def forward(self, outputs, targets):
        loss = F.cross_entropy(outputs, targets) + 0.01 * (outputs @ self.queue.T).mean()
        if self.training:
            self.queue = torch.cat([self.queue, outputs.detach()])[-20:]
        return loss


class Counting(Centers):
    """A loss whose buffer changes whenever it is called."""

    def forward(self, outputs, targets):
        self.steps += 1
        return super().forward(outputs, targets) * (1 + 0.1 * self.steps)


LOSSES = {
    "an object": Penalized(),
    "a class with loss_of": Penalized,
    "a module with loss_of": Contrastive(),
    "an object that draws and holds a module": Distilled,
    "an object with both": Both(),
    "parameters": Head,
    "parameters of an instance": Head(2.0),
    "parameters of a partial": partial(Head, scale=0.5),
    "buffers": Centers,
    "a queue": Queue,
    "buffers that every call changes": Counting,
    "a class that draws": Projected,
    "a function": F.cross_entropy,
    "a partial": partial(F.cross_entropy, label_smoothing=0.1),
}


@pytest.mark.parametrize("name", LOSSES)
def test_training_with_any_loss_resumes_to_the_bit(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours, this = trainer(copy.deepcopy(LOSSES[name]), optimizer=torch.optim.Adam), job()
        whole, reports = run(ours, this)
        half, first = run(ours, this, until=1)
        torch.rand(3)
        rest, last = run(ours, this, until=2, state=through_file(half))
    assert flat(rest.values) == flat(whole.values)
    assert facts([*first, *last]) == facts(reports)


@pytest.mark.parametrize("name", LOSSES)
def test_any_loss_passes_the_dry_run_and_is_described(name):
    one = study(LOSSES[name])
    one.run(trials=1)
    assert one.trials[0].status == "DONE"
    assert "0x" not in one.trainer.describe()["loss"]


def test_an_object_trains_as_a_subclass_does():
    (state, reports), (other, others) = (
        run(ours, job()) for ours in (trainer(Penalized()), trainer(nn.CrossEntropyLoss(), PenalizedTrainer))
    )
    assert flat(state.values["module"]) == flat(other.values["module"])
    assert facts(reports) == facts(others)


def test_arguments_of_an_object_are_tuned_in_the_section_loss():
    one = study(Penalized, {"loss": {"strength": tn.Float(0.0, 1.0)}, "optimizer": {"lr": tn.Float(0.01, 0.2)}})
    one.run(trials=2)
    strengths = {trial.config["loss"]["strength"] for trial in one.trials}
    assert len(strengths) == 2
    with pytest.raises(TypeError, match=r'takes no argument "strenght".*"strength"'):
        study(Penalized, {"loss": {"strenght": tn.Float(0.0, 1.0)}})
    with pytest.raises(TypeError, match="needs a class to give arguments to"):
        study(Penalized(), {"loss": {"strength": tn.Float(0.0, 1.0)}})


def test_objects_are_chosen_by_a_label():
    choice = tn.Choice({"strict": Penalized(1.0), "contrastive": tn.call(Contrastive)})
    one = study(Penalized, {"loss": choice, "optimizer": {"lr": tn.Float(0.01, 0.2)}}, searcher=tn.Random())
    one.run(trials=3)
    assert {trial.status for trial in one.trials} == {"DONE"}


def test_the_validation_loss_of_an_object_is_the_mean_over_rows_unless_it_takes_outputs():
    def measured(loss):
        ours, this = trainer(loss), job()
        state, reports = run(ours, this)
        return ours.module(this, state), reports[-1].metrics["loss"]

    module, value = measured(Penalized())
    with torch.no_grad():
        plain = float(F.cross_entropy(module(X[:30]), Y[:30]))
        own = plain + float(penalty(module, 0.01))
    assert value == pytest.approx(own, rel=1e-5)
    assert measured(Both())[1] == pytest.approx(plain, rel=1e-5)


def test_parameters_of_a_loss_move_with_those_of_the_model():
    def plain_loop(epochs):
        ours, this = trainer(Head()), job(builder=fixed)
        loss, module = copy.deepcopy(ours.loss), fixed()
        optimizer = torch.optim.SGD([*module.parameters(), *loss.parameters()], lr=0.1)
        for epoch in range(1, epochs + 1):
            for rows in this.order(epoch, Shuffled(len(X))).split(8):
                optimizer.zero_grad()
                loss(module(X[rows]), Y[rows]).backward()
                nn.utils.clip_grad_norm_([*module.parameters(), *loss.parameters()], 0.5)
                optimizer.step()
        return ours.loss, loss.prototypes.detach()

    loss, expected = plain_loop(2)
    state, _ = run(trainer(loss, clip=0.5), job(builder=fixed))
    moved = state.values["loss"]["prototypes"]
    torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(moved, loss.prototypes)


def fixed():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return net()


def test_a_class_draws_from_the_seed_of_the_job():
    def score(**more):
        torch.rand(1)
        return run(trainer(Projected), job(builder=fixed, **more), until=1)[1][0].metrics["loss"]

    before = torch.random.get_rng_state()
    first = score()
    torch.random.set_rng_state(before)
    assert first == score() != score(seed=1)
    assert score(replica=1) not in (first, score(seed=1))


class Shifted:
    """An augmentation that is drawn."""

    def __init__(self):
        self.shift = torch.randn(6)

    def __call__(self, inputs):
        return inputs + self.shift


def test_an_augmentation_class_draws_from_the_seed_of_the_job():
    scores = [run(trainer(F.cross_entropy, augment=Shifted), job(seed=s), until=1)[1] for s in (0, 0, 1)]
    assert facts(scores[0]) == facts(scores[1]) != facts(scores[2])


def test_settings_of_a_loss_are_not_in_the_state_so_that_a_fork_takes_its_own():
    ours = trainer(nn.CrossEntropyLoss)
    state, _ = run(ours, job(LR | {"loss": {"weight": [1.0, 1.0, 9.0]}}), until=1)
    assert state.values["loss"] == {}
    forked = run(ours, job(LR | {"loss": {"weight": [5.0, 1.0, 1.0]}}), state=state)[1]
    kept = run(ours, job(LR | {"loss": {"weight": [1.0, 1.0, 9.0]}}), state=state)[1]
    assert facts(forked) != facts(kept)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (nn.BCEWithLogitsLoss, "pos_weight", 3.0),
        (nn.BCEWithLogitsLoss, "pos_weight", [1.0, 2.0, 3.0]),
        (nn.CrossEntropyLoss, "weight", (1, 5, 2)),
        (F.cross_entropy, "weight", [1.0, 5.0, 2.0]),
        (F.binary_cross_entropy_with_logits, "pos_weight", 4),
    ],
)
def test_a_number_becomes_the_tensor_that_an_argument_needs(kind, name, value):
    targets = Y if "ross_entropy" in getattr(kind, "__name__", "") and "binary" not in kind.__name__ else None
    targets = Y if kind is nn.CrossEntropyLoss or targets is not None else F.one_hot(Y, 3).float()
    tensor = torch.as_tensor(value, dtype=torch.float32)
    ready = kind(**{name: tensor}) if isinstance(kind, type) else partial(kind, **{name: tensor})
    wanted, given = (
        tn.Trainer((X, targets), (X, targets), loss=loss, optimizer=torch.optim.SGD, epochs=1) for loss in (ready, kind)
    )
    assert facts(run(wanted, job())[1]) == facts(run(given, job(LR | {"loss": {name: value}}))[1])


def test_a_number_stays_one_where_an_argument_takes_both():
    seen = []

    def loss(outputs, targets, weight: float | torch.Tensor = 1.0, gamma=2.0):
        seen.append((weight, gamma))
        return weight * F.cross_entropy(outputs, targets)

    run(trainer(loss), job(LR | {"loss": {"weight": 0.5, "gamma": 1.0}}), until=1)
    assert set(seen) == {(0.5, 1.0)}


def test_a_test_measures_with_the_loss_that_was_trained():
    one = study(Head)
    one.run(trials=1)
    scores = one.test((X[:30], Y[:30]))
    assert scores["loss"].value == pytest.approx(one.best.metrics["loss"], rel=1e-5)
    module = one.best.model()
    loss = one.trainer.trained_loss(module)
    with torch.no_grad():
        assert float(loss(module(X[:30]), Y[:30])) == pytest.approx(scores["loss"].value, rel=1e-5)


def test_a_loss_is_evaluated_in_evaluation_mode():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = nn.Dropout(0.9)

        def forward(self, outputs, targets):
            return F.cross_entropy(self.dropout(outputs), targets)

    ours, this = trainer(Noisy()), job()
    state, reports = run(ours, this)
    with torch.no_grad():
        expected = float(F.cross_entropy(ours.module(this, state)(X[:30]), Y[:30]))
    assert reports[-1].metrics["loss"] == pytest.approx(expected, rel=1e-5)


class Elsewhere:
    """A runtime of a device that has no numbers."""

    device = torch.device("meta")

    def place(self, value):
        return value.to(self.device)


class Aside(nn.Module):
    """Keeps a module out of its state."""

    def __init__(self):
        super().__init__()
        self.teacher, self.weight = (nn.Linear(2, 2),), nn.Parameter(torch.ones(2))


def test_what_a_loss_holds_is_on_the_device_of_the_job():
    plain, module, bound = Distilled(), Aside(), partial(F.cross_entropy, weight=torch.ones(3))
    history = plain.history = []
    there = [placed(loss, Elsewhere()) for loss in (plain, module, bound)]
    tensors = [there[0].teacher.weight, there[1].teacher[0].weight, there[1].weight, there[2].keywords["weight"]]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert {plain.teacher.weight.device.type, module.teacher[0].weight.device.type} == {"cpu"}
    assert there[0].history is history


class Loose:
    """Parameters in a plain object, which no optimizer gets."""

    def __init__(self):
        self.weights = nn.Parameter(torch.zeros(3))

    def __call__(self, outputs, targets):
        return F.cross_entropy(outputs * self.weights.exp(), targets)


LOG_SCALE = torch.zeros((), requires_grad=True)


class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.rest = nn.Linear(6, 6), [nn.Linear(6, 3)]

    def forward(self, inputs):
        return self.rest[0](self.first(inputs))


class Remembering:
    """A loss whose attribute changes from batch to batch."""

    def __init__(self):
        self.mean = 0.0

    def __call__(self, outputs, targets):
        loss = F.cross_entropy(outputs, targets)
        self.mean = 0.9 * self.mean + 0.1 * loss.item()
        return loss * (1 + self.mean)


REFUSED = {
    "a parameter of a plain object": (Loose(), net, r"depends on a parameter of shape \(3,\)"),
    "a tensor outside": (
        lambda o, t: F.cross_entropy(o * LOG_SCALE.exp(), t),
        net,
        "a tensor that requires a gradient",
    ),
    "layers in a list": (nn.CrossEntropyLoss(), Listed, r"a parameter of shape \(3, 6\).*nn.ModuleList"),
    "an attribute that changes": (Remembering(), net, 'An epoch changes "mean" of the loss'),
    "several losses": (lambda o, t: (F.cross_entropy(o, t), o.mean()), net, "got a tuple of 2 parts; return their sum"),
    "neither callable nor with loss_of": (object(), net, r"got <object.*loss_of\(module, batch\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_loss_that_would_not_train_right_is_refused(name):
    loss, builder, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=words):
        tn.Study(
            model=tn.Model(builder),
            trainer=trainer(loss),
            space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.2)}),
            runtime=RUNTIME,
            progress=False,
        )


def test_a_gradient_penalty_makes_a_tensor_of_its_own():
    class Smooth:
        def loss_of(self, module, batch):
            inputs = batch[0].clone().requires_grad_()
            with torch.enable_grad():  # in an evaluation too
                outputs = module(inputs)
                slopes = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)[0]
            return F.cross_entropy(outputs, batch[1]) + slopes.square().mean()

    one = study(Smooth())
    one.run(trials=1)
    assert math.isfinite(one.best.metrics["loss"])


class Reconstruction:
    """A loss of the inputs, whose units matter."""

    def loss_of(self, module, batch):
        return F.mse_loss(module(batch[0])[:, :3], batch[0][:, :3])


class ReconstructingTrainer(tn.Trainer):
    def loss_of(self, module, batch):
        return Reconstruction().loss_of(module, batch)


@pytest.mark.parametrize("kind", [tn.Trainer, ReconstructingTrainer])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_loss_of_the_inputs_is_tested_as_it_is_validated(kind, normalize):
    data = (50 + 10 * X, Y)
    loss = Reconstruction() if kind is tn.Trainer else nn.CrossEntropyLoss()
    ours = kind(data, data, loss=loss, optimizer=torch.optim.SGD, epochs=1)
    its = tn.types.Job(tn.Model(net, normalize=normalize), {"optimizer": {"lr": 1e-5}}, RUNTIME)
    state, (report,) = run(ours, its, 1)
    tested = ours.test(its, ours.module(its, state), data)
    assert tested["loss"].value == pytest.approx(report.metrics["loss"])
