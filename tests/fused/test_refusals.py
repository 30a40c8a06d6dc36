"""What a program would get wrong is refused, with the line of the user's that says why."""

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
from torch.optim import SGD, Adam
from torch.utils.checkpoint import checkpoint

from tests.helpers.global_generators import generators_untouched
from tests.helpers.small_networks import (
    NETS,
    assert_equal,
    batches,
    compare,
    distance,
    lanes_of,
    loss_of,
    made,
    optimizers_of,
)
from tuneflow.fused.lanes import Lanes
from tuneflow.fused.refusal import CannotFuse


class OldStyle(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad


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


def appending(self, x):
    self.kept["calls"].append(1)
    return self.linear(x) * len(self.kept["calls"])


def noisy(self, x):
    return self.linear(x) + torch.randn(10)  # HERE


def luck(self, x):
    return self.linear(x) * random.random()


def numpy_luck(self, x):
    return self.linear(x) * np.random.random()  # noqa: NPY002


def looking_up(self, x):
    rows = (x[:, :1] > 0).long()
    return self.linear(x) + F.embedding(rows, self.linear.weight[:, :10], sparse=True)[:, 0]  # HERE


def shrinking(self, x):
    F.embedding((x[:, :1] > 0).long(), self.linear.weight, max_norm=0.1)
    return self.linear(x)


def checkpointed(self, x):
    return checkpoint(self.linear, x, use_reentrant=False)  # HERE


def old_style(self, x):
    return OldStyle.apply(self.linear(x))  # HERE


def odd(forward):
    """A builder of a linear module with this forward."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)
            self.register_buffer("seen", torch.ones(()))
            self.kept = {"calls": []}

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
        (appending, 'changes the attribute "kept"'),
        (assigning, 'assigns the buffer "seen" anew'),
        (noisy, "random numbers, which a trace would repeat"),
        (luck, "Python's random"),
        (numpy_luck, "numpy.random"),
        (looking_up, "a gradient is sparse"),
        (shrinking, 'changes the parameter "linear.weight" in place'),
        (checkpointed, "saved tensor hooks"),
        (old_style, "autograd.Function"),
    ],
)
def test_what_a_trace_would_freeze_is_refused_with_the_line(forward, reason, kind):
    modules = made(odd(forward), 2, torch.float32)
    start, lanes = copy.deepcopy(modules), lanes_of(modules, kind=kind)
    with generators_untouched(), pytest.raises(CannotFuse, match=reason) as caught:
        lanes.step(batches(2, 1, torch.float32)[0])
    lines, first = inspect.getsourcelines(forward)
    for number, line in enumerate(lines, first):
        if "# HERE" in line:
            assert f" at test_refusals.py:{number}: {line.strip()}" in str(caught.value)
    lanes.unload(1)
    assert_equal(modules[1], start[1])


def spectral():
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(64, 16)), nn.Tanh(), nn.Linear(16, 10))


def test_spectral_norm_is_refused_for_all_lanes_at_once_and_trained_one_by_one():
    with pytest.raises(CannotFuse, match=r"cannot be traced at .*\.py:\d+: .*; RuntimeError: Batching rule"):
        lanes_of(made(spectral, 2)).step(batches(2, 1)[0])
    compare(spectral, [partial(SGD, lr=rate) for rate in (0.1, 0.01, 0.02)], kind="single")


def test_a_refusal_in_layers_alone_names_the_line_that_calls_them():
    def outer(module, batch):
        return F.cross_entropy(module(batch[0]), batch[1])  # HERE

    net = lambda: nn.Sequential(nn.Linear(64, 10), nn.BatchNorm1d(10, momentum=None))
    lines, first = inspect.getsourcelines(outer)
    number = first + next(n for n, line in enumerate(lines) if "# HERE" in line)
    with pytest.raises(CannotFuse, match=rf"data-dependent branch in forward at test_refusals\.py:{number}: "):
        lanes_of(made(net, 2), loss_of=outer).step(batches(2, 1)[0])


def test_modules_that_cannot_be_copied_and_lazy_ones_are_refused():
    nets = made(NETS["mlp"], 2)
    for net in nets:
        net.held = torch.ones(2, requires_grad=True) * 2
    with pytest.raises(CannotFuse, match="the module cannot be copied"):
        lanes_of(nets).step(batches(2, 1)[0])
    lazy = [nn.LazyLinear(10) for _ in range(2)]
    with pytest.raises(CannotFuse, match="lazy parameters"):
        Lanes(lazy, loss_of, [None, None])


def test_a_buffer_that_is_resized_in_place_is_refused():
    class Grows(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(64, 10)
            self.register_buffer("seen", torch.zeros(0))

        def forward(self, x):
            self.seen.resize_(10).zero_()
            return self.linear(x) + self.seen

    with pytest.raises(CannotFuse, match=r'forward changes the shape of the buffer "seen" to \(10,\)'):
        lanes_of(made(Grows, 2)).step(batches(2, 1)[0])


@pytest.mark.parametrize("net", [NETS["mlp"], NETS["batchnorm"]])
def test_a_gradient_that_plain_torch_refuses_is_refused(net):
    def broken(module, batch):
        hidden = module(batch[0]).sigmoid()
        made = F.cross_entropy(hidden * 1.0, batch[1])
        hidden.mul_(2.0)
        return made + hidden.sum()

    with pytest.raises(CannotFuse, match="modified by an inplace operation"):
        lanes_of(made(net, 2), loss_of=broken).step(batches(2, 1)[0])


def test_a_wrong_gradient_is_refused():
    class Wrong(torch.autograd.Function):
        generate_vmap_rule = True
        eager = False

        @staticmethod
        def forward(x):
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, grad):
            return grad * (1.0 if Wrong.eager else 1.01)

    modules = made(odd(lambda self, x: Wrong.apply(self.linear(x))), 2)
    lanes = lanes_of(modules)
    from tuneflow.fused import program

    plain = program.LaneStep.plain

    def honest(self, flat):
        Wrong.eager = True
        return plain(self, flat)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program.LaneStep, "plain", honest)
        with pytest.raises(CannotFuse, match="gradients differ from plain torch's by"):
            lanes.step(batches(2, 1)[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda net: setattr(net, "slope", 0.4), 'lanes differ in "slope": 0.4 in lane 1, None in lane 0'),
        (lambda net: setattr(net[0], "in_features", 63), '"0.in_features": 63 in lane 1, 64 in lane 0'),
        (lambda net: setattr(net, "act", torch.tanh), '"act"'),
        (lambda net: setattr(net, "act", lambda x: x), '"act"'),
        (lambda net: setattr(net, "table", torch.ones(3)), 'differ in "table", which is neither a parameter nor'),
        (lambda net: setattr(net, "widths", [1, {"a": (2, 3)}]), '"widths"'),
        (lambda net: net.register_forward_hook(lambda *given: None), "hooks of the module"),
        (lambda net: net.eval(), "training"),
        (lambda net: net[0].weight.requires_grad_(False), "0.weight"),
        (lambda net: net.__setitem__(1, nn.Tanh()), "class of 1"),
    ],
)
def test_lanes_that_are_not_alike_are_refused(change, reason):
    modules = made(NETS["mlp"], 2)
    change(modules[1])
    with pytest.raises(CannotFuse, match=reason):
        lanes_of(modules)
    alike, start = made(NETS["mlp"], 2), made(NETS["mlp"], 2)
    lanes = lanes_of(alike)
    with pytest.raises(CannotFuse, match="lanes differ in"):
        lanes.put(1, modules[1], SGD(modules[1].parameters(), lr=0.1))
    lanes.unload(1)
    assert_equal(alike[1], start[1])


def test_what_functions_and_local_classes_hold_is_compared_too():
    def net(slope, act):
        class Bent(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear, self.act = nn.Linear(64, 10), act

            def forward(self, x):
                return self.act(self.linear(x) * slope)

        return Bent()

    def bent(power):
        return lambda x: x**power

    lanes_of([net(1.0, bent(2)), net(1.0, bent(2))])
    lanes_of([net(1.0, partial(F.leaky_relu, negative_slope=0.1)) for _ in range(2)])
    with pytest.raises(CannotFuse, match='lanes differ in "act"'):
        lanes_of([net(1.0, bent(2)), net(1.0, bent(3))])
    with pytest.raises(CannotFuse, match='lanes differ in "act"'):
        lanes_of([net(1.0, partial(F.leaky_relu, negative_slope=slope)) for slope in (0.1, 0.2)])
    with pytest.raises(CannotFuse, match=r'lanes differ in "act": .*which cannot be compared'):
        lanes_of([net(1.0, object()) for _ in range(2)])
    with pytest.raises(CannotFuse, match='lanes differ in "class of the module"'):
        lanes_of([net(1.0, torch.tanh), net(2.0, torch.tanh)])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (partial(torch.optim.RMSprop, lr=0.1), "RMSprop has no stacked form"),
        (partial(Adam, lr=0.1, amsgrad=True), "amsgrad"),
        (partial(Adam, lr=torch.tensor(0.1), capturable=False, foreach=False), "is a tensor"),
        (lambda ps: SGD(list(ps)[:-1], lr=0.1), 'the optimizer leaves out "4.bias", which has a gradient'),
        (lambda ps: SGD([*ps, nn.Parameter(torch.ones(2))], lr=0.1), "a parameter that is not the module's"),
    ],
)
def test_optimizers_without_a_stacked_form_are_refused(make, reason):
    modules = made(NETS["mlp"], 2)
    with pytest.raises(CannotFuse, match=reason):
        lanes_of(modules, [make, make]).step(batches(2, 1)[0])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda ps: SGD([{"params": [p]} for p in ps], lr=0.1), "lanes differ in their parameter groups"),
        (partial(Adam, lr=0.1), "lanes have different optimizers, Adam and SGD"),
        (partial(SGD, lr=torch.tensor(0.1)), "is a tensor"),
    ],
)
def test_optimizers_that_are_not_alike_are_refused_to_lanes_and_to_guests(make, reason):
    modules, plain = made(NETS["mlp"], 2), partial(SGD, lr=0.1)
    with pytest.raises(CannotFuse, match=reason):
        lanes_of(modules, [plain, make]).step(batches(2, 1)[0])
    lanes, steps = lanes_of(modules), batches(2, 3)
    lanes.step(steps[0])
    guest = made(NETS["mlp"], 1)[0]
    with pytest.raises(CannotFuse, match=reason):
        lanes.put(0, guest, *optimizers_of([guest], [make]))
    lanes.step(steps[1])
    lanes.unload(0)
    assert distance(modules[0], guest) > 0
    assert_equal(guest, made(NETS["mlp"], 1)[0])


@pytest.mark.parametrize("function", [F.relu, partial(torch.clamp, min=0.0), lambda x: torch.maximum(x, x * 0)])
@pytest.mark.parametrize("kind", ["stacked", "single", "eager"])
def test_a_maximum_does_not_hide_that_a_lane_is_not_a_number(function, kind):
    def hinge(module, batch):
        return function(1 - module(batch[0])).mean()

    inputs, targets = batches(3, 2)[0]
    inputs[1, 2, 3] = math.nan
    lanes = lanes_of(made(NETS["mlp"], 3), loss_of=hinge, kind=kind)
    losses = lanes.step((inputs, targets))
    assert [math.isnan(loss) for loss in losses] == [False, True, False]
    assert lanes.live == [True, False, True]


def test_a_batch_of_something_else_is_refused_and_of_other_lanes_an_error():
    lanes, (inputs, targets) = lanes_of(made(NETS["mlp"], 2)), batches(2, 1)[0]
    with pytest.raises(CannotFuse, match="a batch holds a str; tensors can be stacked"):
        lanes.step((inputs, "targets"))
    with pytest.raises(ValueError, match="2 lanes need a first axis of as many"):
        lanes.step((inputs[:1], targets[:1]))
    with pytest.raises(ValueError, match="kind needs to be one of stacked, single, eager, got 'other'"):
        lanes_of(made(NETS["mlp"], 2), kind="other")
    with pytest.raises(ValueError, match="one entry for each lane"):
        lanes_of(made(NETS["mlp"], 2), clips=[1.0])
