"""Dropout among lanes: the masks are those of torch, drawn from the generator of each lane alone."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD

from tests.helpers.global_generators import generators_untouched
from tests.helpers.small_networks import (
    DROPPING_NETS,
    assert_same_training,
    batches,
    distance,
    kept_lanes,
    lanes_of,
    loss_of,
    made,
    optimizers_of,
    train_alone,
)
from tuneflow.fused.dropout import draw
from tuneflow.fused.lanes import Lanes
from tuneflow.fused.program_cache import ProgramCache
from tuneflow.fused.refusal import CannotFuse


def seeded(number):
    return torch.Generator().manual_seed(number)


def train_seeded(module, seed, lane, steps):
    """The plain loop, dropout drawing from the global generator; what it would draw next."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        train_alone(module, SGD(module.parameters(), lr=0.1), lane, steps)
        return torch.rand(3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("net", DROPPING_NETS)
@pytest.mark.parametrize("kind", ["stacked", "single", "eager"])
def test_a_lane_draws_what_torch_draws_alone(net, kind, dtype):
    start = made(DROPPING_NETS[net], 3, dtype)
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    generators, steps = [seeded(n) for n in (5, 6, 7)], batches(3, 6, dtype)
    with generators_untouched():
        lanes = lanes_of(fused, kind=kind, generators=generators)
        for batch in steps:
            lanes.step(batch)
    for lane in range(3):
        following = train_seeded(alone[lane], 5 + lane, lane, steps)
        assert torch.equal(torch.rand(3, generator=generators[lane]), following)
        lanes.unload(lane)
        assert_same_training(fused[lane], alone[lane], start[lane], 1e-12 if dtype is torch.float64 else 1e-5)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(5, 7), (0, 3)])
def test_a_mask_is_torchs_bit_for_bit(p, shape):
    mine, mask = seeded(3), torch.empty(shape)
    draw(mask, p, mine)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = F.dropout(torch.ones(shape), p)
        assert torch.equal(mask, expected)
        assert torch.equal(torch.rand(3, generator=mine), torch.rand(3))


def masks_of(monkeypatch, count, keep=None, only=None):
    """The masks that each of so many lanes is given, by lane, over six steps."""
    from tuneflow.fused import dropout

    nets, found = made(DROPPING_NETS["layers"], 16)[:count], [[] for _ in range(count)]
    generators = [seeded(n) for n in range(count)]
    of = {id(generator): masks for generator, masks in zip(generators, found)}

    def drawn(mask, p, generator):
        draw(mask, p, generator)
        of.get(id(generator), []).append(mask.clone())

    monkeypatch.setattr(dropout, "draw", drawn)
    sgd = optimizers_of(nets, [partial(SGD, lr=0.1)] * count)
    lanes = Lanes(nets, loss_of, sgd, generators=generators)
    for number, (inputs, targets) in enumerate(batches(16, 6)):
        if keep and number == 3:
            lanes = kept_lanes(lanes, keep, nets, sgd, generators=[generators[lane] for lane in keep])
        places = keep if keep and number >= 3 else range(count)
        lanes.step((inputs[list(places)], targets[list(places)]), only and only(number))
    return found


def test_masks_do_not_depend_on_how_many_lanes_there_are(monkeypatch):
    alone, four, sixteen = (masks_of(monkeypatch, count) for count in (1, 4, 16))
    kept = masks_of(monkeypatch, 4, keep=[2, 0])
    assert len(alone[0]) == 12
    for found in (four, sixteen, kept):
        assert all(map(torch.equal, alone[0], found[0]))
    assert all(map(torch.equal, four[2], kept[2]))
    assert len(kept[1]) == 6
    assert not any(map(torch.equal, four[0], four[1]))


def test_a_lane_that_does_not_move_draws_nothing(monkeypatch):
    whole = masks_of(monkeypatch, 2)
    pausing = masks_of(monkeypatch, 2, only=lambda number: [number not in (1, 3), True])
    assert len(pausing[0]) == 8
    assert all(map(torch.equal, pausing[1], whole[1]))
    assert all(map(torch.equal, pausing[0][:6], whole[0]))  # its own steps, in their own order; the last is short


def test_a_refused_batch_draws_nothing():
    generators = [seeded(1), seeded(2)]
    lanes = lanes_of(
        made(DROPPING_NETS["layers"], 2),
        loss_of=lambda module, batch: F.cross_entropy(module(batch[0]), batch[1]) * float(batch[0].sum()),
        generators=generators,
    )
    with pytest.raises(CannotFuse):
        lanes.step(batches(2, 1)[0])
    assert torch.equal(generators[0].get_state(), seeded(1).get_state())


def test_the_probability_of_layers_may_differ_from_lane_to_lane_and_change_with_a_guest():
    start = made(DROPPING_NETS["layers"], 4)
    for net, p in zip(start, (0.0, 0.25, 0.6, 0.9)):
        net[2].p = p
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    programs, steps = ProgramCache(), batches(4, 8)[:7]
    lanes = lanes_of(fused[:3], generators=[seeded(n) for n in range(3)], programs=programs)
    for inputs, targets in steps[:4]:
        lanes.step((inputs[:3], targets[:3]))
    for lane in range(3):
        lanes.unload(lane)
        train_seeded(alone[lane], lane, lane, steps[:4])
        assert_same_training(fused[lane], alone[lane], start[lane], 1e-12)
    lanes.put(1, fused[3], SGD(fused[3].parameters(), lr=0.1), generator=seeded(3))
    for inputs, targets in steps[4:]:
        lanes.step((inputs[:3], targets[:3]))
    lanes.unload(1)
    train_seeded(alone[3], 3, 1, steps[4:])
    assert_same_training(fused[3], alone[3], start[3], 1e-12)
    assert len(programs) == 1


def test_a_first_guest_that_drops_out_gets_a_program_that_does():
    start = made(DROPPING_NETS["layers"], 3)
    for net in start[:2]:
        net[2].p = net[4].p = 0.0
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    programs, steps = ProgramCache(), batches(2, 4)[:3]
    lanes = lanes_of(fused[:2], programs=programs)
    for step in steps:
        lanes.step(step)
    assert len(programs) == 1
    lanes.put(0, fused[2], *optimizers_of(fused[2:], [partial(SGD, lr=0.1)]), generator=seeded(9))
    for step in steps:
        lanes.step(step)
    lanes.unload(0)
    train_seeded(alone[2], 9, 0, steps)
    assert_same_training(fused[2], alone[2], start[2], 1e-12)
    assert len(programs) == 2


def test_a_program_that_was_traced_when_nobody_dropped_out_any_more_still_can():
    start = made(DROPPING_NETS["layers"], 3)
    start[1][2].p = 0.0
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    lanes, steps = lanes_of(fused[:1]), batches(1, 4)[:3]
    lanes.put(0, fused[1], *optimizers_of(fused[1:], [partial(SGD, lr=0.1)]))
    lanes.step(steps[0])  # traced here
    lanes.put(0, fused[2], *optimizers_of(fused[2:], [partial(SGD, lr=0.1)]), generator=seeded(4))
    for step in steps:
        lanes.step(step)
    lanes.unload(0)
    train_seeded(alone[2], 4, 0, steps)
    assert_same_training(fused[2], alone[2], start[2], 1e-12)


def test_generators_are_seeded_with_0_by_default():
    nets, others = made(DROPPING_NETS["layers"], 2), made(DROPPING_NETS["layers"], 2)
    one, other = lanes_of(nets), lanes_of(others, generators=[seeded(0), seeded(0)])
    for step in batches(2, 3):
        assert one.step(step) == other.step(step)
    assert distance(nets[0], others[0]) == 0.0


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.drop = nn.Linear(64, 10), nn.Dropout(0.2)

    def forward(self, x):
        return self.linear(x) * (1 - self.drop.p)  # HERE


class Given(Scaled):
    def forward(self, x):
        return torch.mul(self.drop(self.linear(x)), self.drop.p)


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        parts = [x.view(-1, 1, 8, 8)] * 3
        return self.linear(F.scaled_dot_product_attention(*parts, dropout_p=0.1).flatten(1))


class Evaluating(Scaled):
    def forward(self, x):
        x = self.drop(self.linear(x))
        return x if self.training else x * self.drop.p


@pytest.mark.parametrize("net", [Scaled, Given])
def test_a_forward_that_computes_with_the_probability_is_refused(net):
    with pytest.raises(CannotFuse, match=r'forward computes with "drop.p", which a trace would freeze at test_dropout'):
        lanes_of(made(net, 2)).step(batches(2, 1)[0])


@pytest.mark.parametrize("kind", ["stacked", "single", "eager"])
@pytest.mark.parametrize("net", [Scaled, Evaluating])
def test_an_evaluation_that_computes_with_the_probability_is_refused(net, kind):
    with pytest.raises(CannotFuse, match=r'forward computes with "drop.p"'):
        lanes_of(made(net, 2), kind=kind).outputs(batches(1, 1)[0][0][0])


@pytest.mark.parametrize(
    ("net", "where"),
    [
        (Attending, r"at test_dropout.py:\d+: return self.linear\(F.scaled_dot_product_attention"),
        (lambda: nn.Sequential(nn.Linear(64, 10), nn.AlphaDropout(0.2)), "random numbers"),
        (lambda: nn.Sequential(nn.Linear(64, 10), nn.RReLU()), "random numbers"),
    ],
)
def test_other_dropout_and_noise_is_refused(net, where):
    with pytest.raises(CannotFuse, match=where), generators_untouched():
        lanes_of(made(net, 2)).step(batches(2, 1)[0])


def test_layers_in_evaluation_mode_drop_nothing():
    nets = made(DROPPING_NETS["layers"], 2)
    for net in nets:
        net[2].eval()
        net[4].eval()
    inputs, targets = batches(2, 2)[0]
    with torch.no_grad():
        expected = [float(loss_of(net, (inputs[n], targets[n]))) for n, net in enumerate(nets)]
    assert lanes_of(nets).step((inputs, targets)) == pytest.approx(expected, rel=1e-12)
