"""Fused training: a lane is the same training alone; what would not be is refused, with the line."""

import copy
import inspect
import math
import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW

from tests.untouched import generators_untouched
from tuneflow.fused.engine import Lanes, fill
from tuneflow.fused.look import Whole
from tuneflow.fused.refused import Refused

ROWS = 12


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(8, 12, batch_first=True), nn.Linear(12, 10)

    def forward(self, x):
        return self.head(self.gru(x.view(-1, 8, 8))[0][:, -1])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(self.first(x).tanh()).tanh())


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(8, 16), nn.Linear(16, 10)
        self.qkv, self.norm = nn.Linear(16, 48), nn.LayerNorm(16)

    def forward(self, x):
        x = self.inner(x.view(-1, 8, 8))
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return self.head((x + (q @ k.transpose(1, 2) / 4).softmax(-1) @ v).mean(1))


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.unused = nn.Linear(64, 16), nn.Linear(16, 10), nn.Linear(3, 3)
        self.body.weight.requires_grad_(False)

    def forward(self, x):
        return self.head(F.gelu(self.body(x)))


NETS = {
    "mlp": lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 10)),
    "cnn": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    ),
    "layernorm": lambda: nn.Sequential(nn.Linear(64, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 10)),
    "batchnorm": lambda: nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10)),
    "batchnorm2d": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    ),
    "gru": Recurrent,
    "tied": Tied,
    "attention": Transformer,
    "unrolled": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(64, 10)),  # vmap has no rule for it
    "frozen": Frozen,
}  # fmt: skip
OPTIMIZERS = {
    "sgd": [partial(SGD, lr=0.1), partial(SGD, lr=0.03, weight_decay=0.01), partial(SGD, lr=0.2)],
    "momentum": [partial(SGD, lr=0.05 / n, momentum=1 - 0.1 * n, weight_decay=0.001 * n) for n in (1, 2, 5)],
    "mixed": [
        partial(SGD, lr=0.05, momentum=0.9, nesterov=True),
        partial(SGD, lr=0.1, momentum=0.8, dampening=0.5, weight_decay=0.01),
        partial(SGD, lr=0.001, maximize=True),
    ],
    "adam": [
        partial(Adam, lr=0.001 * n, betas=(0.8 + 0.04 * n, 0.99), eps=10.0**-n, weight_decay=0.01 * n)
        for n in (2, 3, 4)
    ],
    "adamw": [
        partial(AdamW, lr=0.003 * n, betas=(0.9, 0.999 - 0.01 * n), eps=1e-4, weight_decay=0.1 * n) for n in (0.5, 1, 2)
    ],
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def loss_of(module, batch):
    return F.cross_entropy(module(batch[0]), batch[1])


def made(net, lanes, dtype=torch.float64):
    torch.manual_seed(0)
    return [net().to(dtype) for _ in range(lanes)]


def batches(lanes, steps, dtype=torch.float64, rows=ROWS, seed=1):
    """Batches of stacked lanes, each with rows of its own; the last one is short."""
    draw = torch.Generator().manual_seed(seed)
    sizes = [rows] * (steps - 1) + [rows - 5]
    return [
        (torch.randn(lanes, n, 64, generator=draw, dtype=dtype), torch.randint(10, (lanes, n), generator=draw))
        for n in sizes
    ]


def train_alone(module, optimizer, lane, steps, clip=None, loss_of=loss_of):
    """The plain loop, on one lane's rows."""
    losses = []
    for inputs, targets in steps:
        loss = loss_of(module, (inputs[lane], targets[lane]))
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


def tensors(module):
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def distance(a, b):
    """The norm of the difference of two modules' floating-point tensors."""
    pairs = [(x, tensors(b)[name]) for name, x in tensors(a).items() if x.is_floating_point()]
    return math.sqrt(sum(float((x.detach() - y.detach()).double().square().sum()) for x, y in pairs))


def assert_same_training(fused, alone, start, tolerance):
    moved = distance(alone, start)
    assert moved > 0
    assert distance(fused, alone) <= tolerance * moved
    whole = [(name, x) for name, x in tensors(alone).items() if not x.is_floating_point()]
    assert all(torch.equal(x, tensors(fused)[name]) for name, x in whole)


def compare(net, optimizers, dtype=torch.float64, kind="stacked", clips=(None, None, None), steps=24):
    """Train fused and alone; assert that each lane ends at the same place with the same losses."""
    start = made(net, len(optimizers), dtype)
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    mine = [make(module.parameters()) for make, module in zip(optimizers, fused)]
    theirs = [make(module.parameters()) for make, module in zip(optimizers, alone)]
    lanes = Lanes(fused, loss_of, mine, kind=kind, clips=clips)
    steps = batches(len(optimizers), steps, dtype)
    losses = [lanes.step(batch) for batch in steps]
    for lane in range(len(optimizers)):
        expected = train_alone(alone[lane], theirs[lane], lane, steps, clips[lane])
        lanes.unload(lane)
        assert [row[lane] for row in losses] == pytest.approx(expected, rel=TOLERANCE[dtype] * 10)
        assert_same_training(fused[lane], alone[lane], start[lane], TOLERANCE[dtype])


@pytest.mark.parametrize("net", NETS)
def test_a_lane_is_the_same_training_alone(net):
    compare(NETS[net], OPTIMIZERS["momentum"])


@pytest.mark.parametrize("net", ["mlp", "cnn", "layernorm", "gru", "batchnorm"])
def test_a_lane_is_the_same_training_alone_in_single_precision(net):
    compare(NETS[net], OPTIMIZERS["momentum"], torch.float32)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_every_optimizer_has_settings_of_each_lanes_own(optimizer, dtype):
    compare(NETS["mlp"], OPTIMIZERS[optimizer], dtype)


@pytest.mark.parametrize("kind", ["single", "eager"])
@pytest.mark.parametrize("net", ["mlp", "batchnorm2d", "gru", "tied", "frozen"])
def test_the_other_programs_train_the_same(net, kind):
    compare(NETS[net], OPTIMIZERS["adam"], kind=kind)


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_clipping_is_of_each_lane(optimizer):
    compare(NETS["mlp"], OPTIMIZERS[optimizer], clips=(0.1, None, 1.0))


@pytest.mark.parametrize("optimizer", ["mixed", "momentum", "adam"])
def test_a_lane_that_is_not_finite_stops_and_disturbs_no_other(optimizer):
    def losses_and_modules(spoil):
        modules = made(NETS["batchnorm"], 3)
        lanes = Lanes(modules, loss_of, [o(m.parameters()) for o, m in zip(OPTIMIZERS[optimizer], modules)])
        steps = batches(3, 10)
        if spoil:
            steps[4][0][1, 3] = math.nan
        losses = [lanes.step(batch) for batch in steps]
        for lane in range(3):
            lanes.unload(lane)
        return lanes, losses, modules

    (_, expected, whole), (lanes, losses, spoilt) = losses_and_modules(False), losses_and_modules(True)
    assert lanes.live == [True, False, True]
    assert math.isnan(losses[4][1])
    for lane in (0, 2):
        assert [row[lane] for row in losses] == [row[lane] for row in expected]
        assert distance(spoilt[lane], whole[lane]) == 0.0
    _, _, short = None, None, made(NETS["batchnorm"], 3)
    train_alone(short[1], OPTIMIZERS[optimizer][1](short[1].parameters()), 1, batches(3, 10)[:4])
    assert_same_training(spoilt[1], short[1], made(NETS["batchnorm"], 3)[1], 1e-12)


@pytest.mark.parametrize("optimizer", ["mixed", "momentum", "adam"])
def test_a_lane_that_is_stopped_stays_as_it_is(optimizer):
    modules = made(NETS["batchnorm"], 3)
    lanes = Lanes(modules, loss_of, [o(m.parameters()) for o, m in zip(OPTIMIZERS[optimizer], modules)])
    steps = batches(3, 8)
    for batch in steps[:3]:
        lanes.step(batch)
    lanes.stop(0)
    lanes.unload(0)
    before = copy.deepcopy(modules[0])
    state = copy.deepcopy(lanes._optimizers[0].state_dict())
    for batch in steps[3:]:
        lanes.step(batch)
    lanes.unload(0)
    assert distance(modules[0], before) == 0.0
    after = lanes._optimizers[0].state_dict()
    torch.testing.assert_close(after["state"], state["state"], rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_dropping_lanes_changes_nothing_for_those_kept(optimizer):
    start = made(NETS["mlp"], 3)
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    lanes = Lanes(fused, loss_of, [o(m.parameters()) for o, m in zip(OPTIMIZERS[optimizer], fused)], clips=[1, 2, 3])
    steps = batches(3, 20)
    for batch in steps[:7]:
        lanes.step(batch)
    lanes = lanes.keep([2, 0])
    for inputs, targets in steps[7:]:
        lanes.step((inputs[[2, 0]], targets[[2, 0]]))
    for place, lane in enumerate([2, 0]):
        lanes.unload(place)
        train_alone(alone[lane], OPTIMIZERS[optimizer][lane](alone[lane].parameters()), lane, steps, clip=lane + 1)
        assert_same_training(fused[lane], alone[lane], start[lane], 1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_lane_can_be_given_to_another_trial_half_way_trained(optimizer):
    make = OPTIMIZERS[optimizer][1]
    modules, steps = made(NETS["mlp"], 3), batches(3, 20)
    guest, alone = (copy.deepcopy(modules[2]) for _ in range(2))
    guests, theirs = make(guest.parameters()), make(alone.parameters())
    train_alone(guest, guests, 1, steps[:6], clip=0.5)
    lanes = Lanes(modules, loss_of, [o(m.parameters()) for o, m in zip(OPTIMIZERS[optimizer], modules)])
    for batch in steps[:3]:
        lanes.step(batch)
    lanes.stop(1)
    lanes.put(1, guest, guests, clip=0.5)
    for batch in steps[6:]:
        lanes.step(batch)
    lanes.unload(1)
    start = copy.deepcopy(alone)
    train_alone(alone, theirs, 1, steps, clip=0.5)
    assert_same_training(guest, alone, start, 1e-12)


def test_a_new_rate_takes_effect_and_unloaded_optimizers_go_on_alone():
    start = made(NETS["mlp"], 3)
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    mine, theirs = ([o(m.parameters()) for o, m in zip(OPTIMIZERS["adam"], ms)] for ms in (fused, alone))
    steps = batches(3, 18)
    lanes = Lanes(fused, loss_of, mine)
    for batch in steps[:6]:
        lanes.step(batch)
    mine[1].param_groups[0].update(lr=0.02, betas=(0.5, 0.9))
    lanes.settle()
    for batch in steps[6:12]:
        lanes.step(batch)
    lanes.unload(1)
    train_alone(fused[1], mine[1], 1, steps[12:])
    train_alone(alone[1], theirs[1], 1, steps[:6])
    theirs[1].param_groups[0].update(lr=0.02, betas=(0.5, 0.9))
    train_alone(alone[1], theirs[1], 1, steps[6:])
    assert_same_training(fused[1], alone[1], start[1], 1e-12)


def dropping():
    return nn.Sequential(
        nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 16), nn.Dropout(0.5), nn.Linear(16, 10)
    )


def test_dropout_masks_depend_on_seed_step_and_layer_and_not_on_the_number_of_lanes():
    def ends(count, seeds):
        modules = made(dropping, 4)[:count]
        lanes = Lanes(modules, loss_of, [SGD(m.parameters(), lr=0.1) for m in modules], seeds=seeds[:count])
        for inputs, targets in batches(4, 6):
            lanes.step((inputs[:count], targets[:count]))
        lanes.unload(0)
        return modules[0]

    start, alone = made(dropping, 1)[0], ends(1, [7])
    assert_same_training(ends(4, [7, 8, 9, 10]), alone, start, 1e-12)
    assert_same_training(ends(2, [7, 7]), alone, start, 1e-12)
    assert distance(ends(1, [8]), alone) > 1e-3 * distance(alone, start)


def test_dropout_is_the_plain_loop_with_the_same_masks():
    start = made(dropping, 1)[0]
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    lanes = Lanes([fused], loss_of, [SGD(fused.parameters(), lr=0.1)], seeds=[3])
    optimizer = SGD(alone.parameters(), lr=0.1)
    for step, (inputs, targets) in enumerate(batches(1, 6)):
        lanes.step((inputs, targets))
        shape = (inputs.shape[1], 16)
        masks = [fill(inputs.new_empty(shape), p, 3, step, layer) for layer, p in enumerate([0.3, 0.5])]
        optimizer.zero_grad()
        Whole(alone, loss_of)((inputs[0], targets[0]), masks).backward()
        optimizer.step()
    lanes.unload(0)
    assert_same_training(fused, alone, start, 1e-12)
    assert abs(float((fill(torch.empty(100_000), 0.3, 0, 0, 0) == 0).double().mean()) - 0.3) < 0.006  # 4 sigma


def branching(self, x):
    y = self.linear(x)
    if y.sum() > 0:  # HERE
        y = -y
    return y


def taking(self, x):
    y = self.linear(x)
    return y * y.detach().abs().max().item()  # HERE


def masking(self, x):
    y = self.linear(x)
    return y + y[y > 0].mean()  # HERE


def counting(self, x):
    self.calls = getattr(self, "calls", 0) + 1
    return self.linear(x) * self.calls


def assigning(self, x):
    self.seen = self.seen + 1
    return self.linear(x) * self.seen


def noisy(self, x):
    return self.linear(x) + torch.randn(10)


def luck(self, x):
    return self.linear(x) * random.random()


def numpy_luck(self, x):
    return self.linear(x) * np.random.random()  # noqa: NPY002


def odd(forward):
    """A builder of a linear module with this forward."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)
            self.register_buffer("seen", torch.ones(()))

        def forward(self, x):
            return forward(self, x)

    return Odd


@pytest.mark.parametrize("kind", ["stacked", "single"])
@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (branching, "data-dependent branch in forward at"),
        (taking, "a number taken out of a tensor in forward at"),
        (masking, "boolean mask"),
        (counting, 'changes the attribute "calls"'),
        (assigning, 'assigns the buffer "seen" anew'),
        (noisy, "torch's global generator"),
        (luck, "Python's random"),
        (numpy_luck, "numpy.random"),
    ],
)
def test_what_a_trace_would_freeze_is_refused_with_the_line(forward, reason, kind):
    modules = made(odd(forward), 2, torch.float32)
    lanes = Lanes(modules, loss_of, [SGD(m.parameters(), lr=0.1) for m in modules], kind=kind)
    with generators_untouched(), pytest.raises(Refused, match=reason) as caught:
        lanes.step(batches(2, 1, torch.float32)[0])
    lines, first = inspect.getsourcelines(forward)
    marked = [first + n for n, line in enumerate(lines) if "# HERE" in line]
    assert all(f"test_fused.py:{number}" in str(caught.value) for number in marked)


def test_a_wrong_gradient_is_refused():
    class Wrong(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, grad):
            return grad * (1.0 if Wrong.eager else 1.01)

    Wrong.eager = False
    modules = made(odd(lambda self, x: Wrong.apply(self.linear(x))), 2)
    lanes = Lanes(modules, loss_of, [SGD(m.parameters(), lr=0.1) for m in modules])
    from tuneflow.fused import program

    plain = program.Eager.__call__

    def honest(self, *given):
        Wrong.eager = True
        return plain(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program.Eager, "__call__", honest)
        with pytest.raises(Refused, match="gradients differ from autograd's by"):
            lanes.step(batches(2, 1)[0])


@pytest.mark.parametrize("net", ["batchnorm", "gru", "tied"])
def test_modules_and_generators_are_untouched_by_tracing_and_training(net):
    modules = made(NETS[net], 3)
    before = [{name: (id(t), t.clone()) for name, t in tensors(module).items()} for module in modules]
    facts = [{k: v for k, v in vars(module).items() if not k.startswith("_")} for module in modules]
    with generators_untouched():
        lanes = Lanes(modules, loss_of, [SGD(m.parameters(), lr=0.1) for m in modules])
        for batch in batches(3, 3):
            lanes.step(batch)
    for module, was in zip(modules, before):
        assert all(id(t) == was[name][0] and torch.equal(t, was[name][1]) for name, t in tensors(module).items())
        assert all(p.grad is None for p in module.parameters())
    assert facts == [{k: v for k, v in vars(module).items() if not k.startswith("_")} for module in modules]


def test_tracing_moves_nothing():
    modules = made(NETS["batchnorm"], 2)
    lanes = Lanes(modules, loss_of, [SGD(m.parameters(), lr=0.0) for m in modules])
    lanes.step(batches(2, 2)[0])
    lanes.unload(0)
    assert modules[0][1].num_batches_tracked == 1


def test_a_program_is_traced_once_for_each_shape(monkeypatch):
    from tuneflow.fused import program

    shapes = []
    plain = program.trace
    monkeypatch.setattr(program, "trace", lambda f, given: shapes.append(len(given)) or plain(f, given))
    modules = made(NETS["mlp"], 2)
    lanes = Lanes(modules, loss_of, [SGD(m.parameters(), lr=0.1) for m in modules])
    for batch in batches(2, 5) + batches(2, 5):
        lanes.step(batch)
    assert len(shapes) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda module: setattr(module[2], "p", 0.4), '"2.p": 0.4 in lane 1, 0.3 in lane 0'),
        (lambda module: module.eval(), "training"),
        (lambda module: module[0].weight.requires_grad_(False), "0.weight"),
        (lambda module: module.__setitem__(1, nn.Tanh()), "class of 1"),
    ],
)
def test_lanes_that_are_not_alike_are_refused(change, reason):
    modules = made(dropping, 2)
    change(modules[1])
    with pytest.raises(Refused, match=reason):
        Lanes(modules, loss_of, [SGD(m.parameters(), lr=0.1) for m in modules])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (partial(torch.optim.RMSprop, lr=0.1), "RMSprop has no stacked form"),
        (partial(Adam, lr=0.1, amsgrad=True), "amsgrad"),
        (partial(Adam, lr=torch.tensor(0.1), capturable=False, foreach=False), "is a tensor"),
        (lambda ps: SGD([{"params": [p]} for p in ps], lr=0.1), "several parameter groups"),
    ],
)
def test_optimizers_without_a_stacked_form_are_refused(make, reason):
    modules = made(NETS["mlp"], 2)
    lanes = Lanes(modules, loss_of, [make(m.parameters()) for m in modules])
    with pytest.raises(Refused, match=reason):
        lanes.step(batches(2, 1)[0])
