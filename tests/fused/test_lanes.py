"""Fused training: a lane is the same training alone."""

import copy
import math
from functools import partial
from itertools import repeat

import pytest
import torch
from torch.nn import functional as F
from torch.optim import SGD, Adam

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tests.helpers.small_networks import (
    NETS,
    OPTIMIZERS,
    PROGRAMS,
    TOLERANCE,
    assert_equal,
    assert_same_training,
    batches,
    compare,
    kept_lanes,
    lanes_of,
    loss_of,
    made,
    optimizers_of,
    tensors,
    train_alone,
)
from tuneflow.fused.lanes import Lanes
from tuneflow.fused.program_cache import ProgramCache
from tuneflow.fused.refusal import CannotFuse
from tuneflow.fused.stacked_tensors import StackedTensors


@pytest.mark.parametrize("net", NETS)
def test_a_lane_is_the_same_training_alone(net):
    compare(NETS[net], OPTIMIZERS["momentum"])


@pytest.mark.parametrize("net", ["mlp", "cnn", "layernorm", "gru", "batchnorm", "wide", "lstm"])
def test_a_lane_is_the_same_training_alone_in_single_precision(net):
    compare(NETS[net], OPTIMIZERS["momentum"], torch.float32)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_every_optimizer_has_settings_of_each_lanes_own(optimizer, dtype):
    compare(NETS["mlp"], OPTIMIZERS[optimizer], dtype)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_large_parameters_move_the_same(optimizer):
    compare(NETS["wide"], OPTIMIZERS[optimizer])


@pytest.mark.parametrize("kind", ["single", "eager"])
@pytest.mark.parametrize("net", ["mlp", "batchnorm2d", "gru", "tied", "frozen"])
def test_the_other_programs_train_the_same(net, kind):
    compare(NETS[net], OPTIMIZERS["adam"], kind=kind)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_lanes_that_move_one_by_one_have_settings_of_their_own(optimizer):
    compare(NETS["mlp"], OPTIMIZERS[optimizer], kind="single", clips=(0.5, None, 2.0))


@pytest.mark.parametrize("net", ["mlp", "wide"])
@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_clipping_is_of_each_lane(net, optimizer):
    compare(NETS[net], OPTIMIZERS[optimizer], clips=(0.1, None, 1.0))


@pytest.mark.parametrize("kind", ["stacked", "single"])
@pytest.mark.parametrize("optimizer", ["mixed", "momentum", "adam"])
def test_a_lane_that_is_not_finite_stops_and_disturbs_no_other(optimizer, kind):
    def losses_and_modules(spoil):
        modules = made(NETS["batchnorm"], 3)
        lanes = lanes_of(modules, OPTIMIZERS[optimizer], kind=kind, programs=PROGRAMS)
        steps = batches(3, 10)
        if spoil:
            steps[4][0][1, 3] = math.nan
        losses = [lanes.step(batch) for batch in steps]
        for lane in range(3):
            lanes.unload(lane)
        return lanes, losses, modules

    (_, expected, whole), (lanes, losses, spoilt) = losses_and_modules(False), losses_and_modules(True)
    assert lanes.live == [True, False, True]
    assert [math.isnan(row[1]) for row in losses] == [False] * 4 + [True] * 6
    for lane in (0, 2):
        assert [row[lane] for row in losses] == [row[lane] for row in expected]
        assert_equal(spoilt[lane], whole[lane])
    short = made(NETS["batchnorm"], 3)
    train_alone(short[1], OPTIMIZERS[optimizer][1](short[1].parameters()), 1, batches(3, 10)[:4])
    assert_same_training(spoilt[1], short[1], made(NETS["batchnorm"], 3)[1], 1e-12)


@pytest.mark.parametrize("optimizer", ["mixed", "momentum", "adam"])
def test_a_lane_that_is_stopped_stays_as_it_is(optimizer):
    modules = made(NETS["batchnorm"], 3)
    optimizers = optimizers_of(modules, OPTIMIZERS[optimizer])
    lanes, steps = Lanes(modules, loss_of, optimizers, programs=PROGRAMS), batches(3, 8)
    for batch in steps[:3]:
        lanes.step(batch)
    lanes.stop(0)
    lanes.unload(0)
    before = copy.deepcopy(modules[0])
    state = copy.deepcopy(optimizers[0].state_dict()["state"])
    for batch in steps[3:]:
        lanes.step(batch)
    lanes.unload(0)
    assert_equal(modules[0], before)
    torch.testing.assert_close(optimizers[0].state_dict()["state"], state, rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_dropping_lanes_changes_nothing_for_those_kept(optimizer):
    start = made(NETS["mlp"], 3)
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    optimizers = optimizers_of(fused, OPTIMIZERS[optimizer])
    lanes = Lanes(fused, loss_of, optimizers, clips=[1, 2, 3], programs=PROGRAMS)
    steps = batches(3, 20)
    for batch in steps[:7]:
        lanes.step(batch)
    lanes = kept_lanes(lanes, [2, 0], fused, optimizers, clips=[3, 1], programs=PROGRAMS)
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
    lanes = lanes_of(modules, OPTIMIZERS[optimizer], programs=PROGRAMS)
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


@pytest.mark.parametrize("kind", ["stacked", "single", "eager"])
@pytest.mark.parametrize("optimizer", ["mixed", "momentum", "adamw"])
@pytest.mark.parametrize("net", ["batchnorm", "wide"])
def test_lanes_move_in_the_steps_that_they_are_asked_to(net, optimizer, kind):
    """Each lane sits out every third step; alone, it does not have that step."""
    start = made(NETS[net], 3)
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    lanes, steps = lanes_of(fused, OPTIMIZERS[optimizer], kind=kind, programs=PROGRAMS), batches(3, 13)
    for number, batch in enumerate(steps):
        only = [number % 3 != lane for lane in range(3)]
        losses = lanes.step(batch, only)
        assert [math.isfinite(loss) for loss in losses] == only
    assert lanes.live == [True] * 3
    for lane in range(3):
        own = [batch for number, batch in enumerate(steps) if number % 3 != lane]
        train_alone(alone[lane], OPTIMIZERS[optimizer][lane](alone[lane].parameters()), lane, own)
        lanes.unload(lane)
        assert_same_training(fused[lane], alone[lane], start[lane], 1e-12)


def test_a_step_of_no_lane_changes_nothing():
    modules = made(NETS["batchnorm"], 2)
    start, lanes = copy.deepcopy(modules), lanes_of(modules)
    losses = lanes.step(batches(2, 1)[0], [False, False])
    lanes.unload(1)
    assert all(map(math.isnan, losses))
    assert lanes.live == [True, True]
    assert_equal(modules[1], start[1])


@pytest.mark.parametrize("kind", ["stacked", "single"])
def test_lanes_that_share_programs_do_not_disturb_each_other(kind):
    """Two sets of lanes, stepped in turn, end where each ends by itself; there is one trace for each shape."""
    programs, steps, ends = ProgramCache(), batches(3, 12), {}
    for together in (True, False):
        sets = [made(NETS["wide"], 3), [copy.deepcopy(net) for net in reversed(made(NETS["wide"], 3))]]
        makers = [OPTIMIZERS["momentum"], OPTIMIZERS["mixed"]]
        shared = programs if together else None
        lanes = [lanes_of(own, make, kind=kind, programs=shared) for own, make in zip(sets, makers)]
        turns = [(n, step) for step in steps for n in (0, 1)] if together else [(n, s) for n in (0, 1) for s in steps]
        for n, step in turns:
            lanes[n].step(step)
        for part in lanes:
            part.unload(1)
        ends[together] = [own[1] for own in sets]
    assert len(programs) == 2
    for one, other in zip(ends[True], ends[False]):
        assert_equal(one, other)


def test_shapes_lanes_and_kinds_have_programs_of_their_own_and_kept_lanes_share_them():
    programs, steps = ProgramCache(), batches(3, 2)
    nets = made(NETS["mlp"], 3)
    sgd = optimizers_of(nets, [partial(SGD, lr=0.1)] * 3)
    lanes = Lanes(nets, loss_of, sgd, programs=programs)
    for step in steps + steps:
        lanes.step(step)
    assert len(programs) == 2
    fewer = kept_lanes(lanes, [0, 2], nets, sgd, programs=programs)
    fewer.step((steps[0][0][:2], steps[0][1][:2]))
    assert len(programs) == 3
    kept_lanes(lanes, [1, 0], nets, sgd, programs=programs).step((steps[0][0][:2], steps[0][1][:2]))
    lanes_of(made(NETS["mlp"], 3), programs=programs).step(steps[0])
    assert len(programs) == 3
    lanes_of(made(NETS["mlp"], 3), programs=programs, kind="single").step(steps[0])
    lanes_of(made(NETS["mlp"], 2), programs=programs, kind="single").step((steps[0][0][:2], steps[0][1][:2]))
    assert len(programs) == 4
    lanes_of(made(NETS["layernorm"], 3), programs=programs).step(steps[0])
    assert len(programs) == 5


def test_a_guest_needs_no_new_program():
    programs, steps = ProgramCache(), batches(3, 4)
    lanes = lanes_of(made(NETS["mlp"], 3), OPTIMIZERS["adam"], programs=programs)
    for step in steps:
        lanes.step(step)
    guest = made(NETS["mlp"], 1)[0]
    its = Adam(guest.parameters(), lr=0.01)
    lanes.put(1, guest, its)
    lanes.step(steps[0])
    lanes.unload(1)
    assert len(programs) == 2
    alone = made(NETS["mlp"], 1)[0]
    optimizer = Adam(alone.parameters(), lr=0.01)
    train_alone(alone, optimizer, 1, steps[:1])  # its first step: the bias is corrected as of the first
    assert_same_training(guest, alone, made(NETS["mlp"], 1)[0], 1e-12)
    counts = [float(its.state[p]["step"]) for p in guest.parameters()]
    assert counts == [1.0] * len(counts)


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adam in groups"])
def test_a_schedule_that_moves_momentum_too_is_taken_over_at_every_step(optimizer):
    start = made(NETS["mlp"], 3)
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    mine, theirs = (optimizers_of(modules, OPTIMIZERS[optimizer]) for modules in (fused, alone))

    def schedules(optimizers):
        made = [[dict(group) for group in o.param_groups] for o in optimizers]
        return [tn.rates.OneCycle().attach(o, groups, 10, 1) for o, groups in zip(optimizers, made)]

    ours, rates = schedules(mine), schedules(theirs)
    lanes, steps = Lanes(fused, loss_of, mine, programs=PROGRAMS), batches(3, 10)
    for number, batch in enumerate(steps):
        for rate in ours:
            rate.before(number)
        lanes.settle()
        lanes.step(batch)
    for lane in range(3):
        for number, batch in enumerate(steps):
            rates[lane].before(number)
            train_alone(alone[lane], theirs[lane], lane, [batch])
        lanes.unload(lane)
        assert_same_training(fused[lane], alone[lane], start[lane], 1e-12)


def test_a_new_rate_takes_effect_and_unloaded_optimizers_go_on_alone():
    start = made(NETS["mlp"], 3)
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    mine, theirs = (optimizers_of(modules, OPTIMIZERS["adam"]) for modules in (fused, alone))
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


@pytest.mark.parametrize("net", ["batchnorm", "gru", "tied"])
def test_modules_and_generators_are_untouched_by_tracing_and_training(net):
    modules = made(NETS[net], 3)
    before = [{name: (id(t), t.clone()) for name, t in tensors(module).items()} for module in modules]
    facts = [{k: v for k, v in vars(module).items() if not k.startswith("_")} for module in modules]
    with generators_untouched():
        lanes = lanes_of(modules)
        for batch in batches(3, 3):
            lanes.step(batch)
    for module, was in zip(modules, before):
        assert all(id(t) == was[name][0] and torch.equal(t, was[name][1]) for name, t in tensors(module).items())
        assert all(p.grad is None for p in module.parameters())
    assert facts == [{k: v for k, v in vars(module).items() if not k.startswith("_")} for module in modules]


def test_tracing_moves_nothing():
    modules = made(NETS["batchnorm"], 2)
    lanes = lanes_of(modules, repeat(partial(SGD, lr=0.0)))
    lanes.step(batches(2, 2)[0])
    lanes.unload(0)
    assert modules[0][1].num_batches_tracked == 1


def test_what_was_unloaded_is_no_view_of_the_lanes():
    modules, steps = made(NETS["batchnorm"], 2), batches(2, 6)
    optimizers = optimizers_of(modules, OPTIMIZERS["adam"])
    lanes = Lanes(modules, loss_of, optimizers)
    for step in steps[:3]:
        lanes.step(step)
    lanes.unload(0)
    module, state = copy.deepcopy(modules[0]), copy.deepcopy(optimizers[0].state_dict()["state"])
    for step in steps[3:]:
        lanes.step(step)
    assert_equal(modules[0], module)
    torch.testing.assert_close(optimizers[0].state_dict()["state"], state, rtol=0, atol=0)


def frozen_alike(lanes):
    """Nets whose frozen weights are equal, and decay if they are trained."""
    nets = made(NETS["frozen"], lanes)
    for net in nets:
        net.load_state_dict({"body.weight": nets[0].body.weight}, strict=False)
    return nets


@pytest.mark.parametrize("kind", ["stacked", "single", "eager"])
@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_equal_frozen_parameters_are_held_once_and_stay_as_they_are(optimizer, kind):
    start = frozen_alike(3)
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    lanes, steps = lanes_of(fused, OPTIMIZERS[optimizer], kind=kind), batches(3, 8)
    assert StackedTensors(fused).of["body.weight"].shape == start[0].body.weight.shape
    for step in steps:
        lanes.step(step)
    for lane in range(3):
        lanes.unload(lane)
        train_alone(alone[lane], OPTIMIZERS[optimizer][lane](alone[lane].parameters()), lane, steps)
        assert_same_training(fused[lane], alone[lane], start[lane], 1e-12)
        assert torch.equal(fused[lane].body.weight, start[0].body.weight)
    guest, other = frozen_alike(1)[0], made(NETS["frozen"], 2)[1]
    lanes.put(1, guest, OPTIMIZERS[optimizer][1](guest.parameters()))
    before = unloaded(lanes, [fused[0], guest, fused[2]])
    with pytest.raises(CannotFuse, match=r'frozen parameter "body.weight" has other values'):
        lanes.put(1, other, OPTIMIZERS[optimizer][1](other.parameters()))
    for kept, now in zip(before, unloaded(lanes, [fused[0], guest, fused[2]])):
        assert_equal(kept, now)


def unloaded(lanes, modules):
    """Copies of the lanes' modules as they are now."""
    for lane in range(len(modules)):
        lanes.unload(lane)
    return copy.deepcopy(modules)


@pytest.mark.parametrize("kind", ["stacked", "single"])
def test_class_weights_divide_by_each_lanes_own_sum(kind):
    weight = torch.linspace(0.1, 3.0, 10, dtype=torch.float64)

    def weighted(module, batch):
        return F.cross_entropy(module(batch[0]), batch[1], weight=weight, ignore_index=3)

    start = made(NETS["mlp"], 3)
    fused, alone = copy.deepcopy(start), copy.deepcopy(start)
    lanes, steps = lanes_of(fused, loss_of=weighted, kind=kind), batches(3, 8)
    for step in steps:
        lanes.step(step)
    for lane, optimizer in enumerate(optimizers_of(alone, repeat(partial(SGD, lr=0.1), 3))):
        lanes.unload(lane)
        train_alone(alone[lane], optimizer, lane, steps, loss_of=weighted)
        assert_same_training(fused[lane], alone[lane], start[lane], 1e-12)


def test_numbers_of_each_lanes_own_may_come_with_the_batch():
    def scaled(module, batch):
        (inputs, targets), scale = batch
        assert scale.shape == ()
        return scale * F.cross_entropy(module(inputs), targets)

    for kind in ("stacked", "single", "eager"):
        start = made(NETS["mlp"], 3)
        fused, alone = copy.deepcopy(start), copy.deepcopy(start)
        lanes, steps = lanes_of(fused, loss_of=scaled, kind=kind), batches(3, 6)
        scales = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
        for step in steps:
            lanes.step((step, scales))
        for lane, scale in enumerate(scales):
            lanes.unload(lane)
            optimizer = SGD(alone[lane].parameters(), lr=0.1 * float(scale))
            train_alone(alone[lane], optimizer, lane, steps)
            assert_same_training(fused[lane], alone[lane], start[lane], 1e-12)
