"""Variables that a training loop carries from pass to pass and does not name are named in a warning, and no others."""

import io
import itertools
import math
import random
import warnings
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tuneflow as tn
from tests.helpers.trainer_runs import run_with_reason
from tuneflow.train.loop import loop

LOSSES = [1.0, 0.5, 0.6, 0.7, 0.8]
ROWS = TensorDataset(torch.arange(8.0))


def warned(function, epochs=3):
    """The warnings of training a loop of `function`, joined."""
    job = tn.types.Job(None, {}, tn.Runtime("cpu", threads=1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_with_reason(loop(epochs=5)(function), job, epochs)
    return " ".join(str(warning.message) for warning in caught)


class Stopper:
    def __init__(self):
        self.best, self.bad = math.inf, 0

    def step(self, loss):
        self.bad = 0 if loss < self.best else self.bad + 1
        self.best = min(self.best, loss)
        return self.bad > 10


@dataclass
class Counts:
    steps: int = 0
    seen: list = field(default_factory=list)


class Slotted:
    __slots__ = ("steps",)

    def __init__(self):
        self.steps = 0


class Meter:
    def __init__(self):
        self.total, self.count = 0.0, 0

    def reset(self):
        self.total, self.count = 0.0, 0

    def update(self, value):
        self.total += value
        self.count += 1


# Loops that carry something.


def counters(config, run):
    best, bad = math.inf, 0
    for epoch in run.epochs():
        loss = LOSSES[epoch - 1]
        if bad >= 3:
            return "no better"
        bad = 0 if loss < best - 0.05 else bad + 1
        best = min(best, loss)
        yield {"loss": loss}


def previous_value(config, run):
    before = None
    for epoch in run.epochs():
        loss = LOSSES[epoch - 1]
        gain = 0.0 if before is None else before - loss
        before = loss
        yield {"loss": loss, "gain": gain}


def a_list(config, run):
    losses = []
    for epoch in run.epochs():
        losses.append(LOSSES[epoch - 1])
        yield {"loss": sum(losses)}


def a_dict(config, run):
    best = {"loss": math.inf, "passes": 0}
    for epoch in run.epochs():
        best["passes"] += 1
        best["loss"] = min(best["loss"], LOSSES[epoch - 1])
        yield {"loss": best["loss"]}


def a_deque(config, run):
    window = deque(maxlen=2)
    for epoch in run.epochs():
        window.append(LOSSES[epoch - 1])
        yield {"loss": max(window)}


def a_set(config, run):
    seen = set()
    for epoch in run.epochs():
        seen.add(epoch)
        yield {"loss": len(seen)}


def an_array(config, run):
    history = np.zeros(5)
    for epoch in run.epochs():
        history[epoch - 1] = LOSSES[epoch - 1]
        yield {"loss": history.sum()}


def a_tensor(config, run):
    average = torch.zeros(20)
    for epoch in run.epochs():
        average += LOSSES[epoch - 1]
        yield {"loss": average.sum()}


def a_large_tensor_bound_anew(config, run):
    average = torch.zeros(20)
    for epoch in run.epochs():
        average = 0.9 * average + LOSSES[epoch - 1]
        yield {"loss": average.sum()}


def attributes(config, run):
    stopper = Stopper()
    for epoch in run.epochs():
        if stopper.step(LOSSES[epoch - 1]):
            return "no better"
        yield {"loss": 1.0}


def attributes_that_are_set(config, run):
    state = SimpleNamespace(bad=0)
    for epoch in run.epochs():
        state.bad = state.bad + 1 if epoch > 1 else 1
        yield {"loss": state.bad}


def a_dataclass(config, run):
    counts = Counts()
    for epoch in run.epochs():
        counts.steps += 1
        counts.seen.append(epoch)
        yield {"loss": counts.steps}


def a_slot(config, run):
    slotted = Slotted()
    for _ in run.epochs():
        slotted.steps += 1
        yield {"loss": slotted.steps}


def an_optimizer(config, run):
    net = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in run.epochs(net=net):
        optimizer.zero_grad()
        net(torch.ones(4, 1)).square().mean().backward()
        optimizer.step()
        yield {"loss": 1.0}


def a_module(config, run):
    net, other = nn.Linear(1, 1), nn.Linear(4, 4)
    for _ in run.epochs(net=net):
        with torch.no_grad():
            other.weight.add_(1.0)
        yield {"loss": other.weight.sum()}


def the_configuration(config, run):
    config["lr"] = 1.0
    for _ in run.epochs():
        config["lr"] *= 0.5
        yield {"loss": config["lr"]}


def an_inner_function(config, run):
    steps = 0

    def step():
        nonlocal steps
        steps += 1

    for _ in run.epochs():
        step()
        yield {"loss": 1.0}


def a_generator(config, run):
    rng = np.random.default_rng(0)
    for _ in run.epochs():
        yield {"loss": rng.random()}


def a_python_generator(config, run):
    rng = random.Random(0)
    for _ in run.epochs():
        yield {"loss": rng.random()}


def a_loader_with_a_generator(config, run):
    loader = DataLoader(ROWS, batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(0))
    for _ in run.epochs():
        yield {"loss": sum(float(batch[0]) for (batch,) in loader)}


def an_iterator(config, run):
    batches = iter(DataLoader(ROWS, batch_size=1))
    for _ in run.epochs():
        yield {"loss": float(next(batches)[0])}


def a_cycle(config, run):
    cycle = itertools.cycle([1.0, 2.0])
    for _ in run.epochs():
        yield {"loss": next(cycle)}


steps = 0
totals = {"n": 0}


def a_global(config, run):
    global steps
    for _ in run.epochs():
        steps += 1
        yield {"loss": steps}


def an_item_of_a_global(config, run):
    for _ in run.epochs():
        totals["n"] += 1
        yield {"loss": totals["n"]}


class Shared:
    steps = 0


def an_attribute_of_a_class(config, run):
    for _ in run.epochs():
        Shared.steps += 1
        yield {"loss": Shared.steps}


def bytes_of_an_array(config, run):
    seen = bytearray(8)
    for epoch in run.epochs():
        seen[epoch] = 1
        yield {"loss": sum(seen)}


def a_tuple_bound_anew(config, run):
    best = (math.inf, 0)
    for epoch in run.epochs():
        best = min(best, (LOSSES[epoch - 1], epoch))
        yield {"loss": best[0]}


def a_while_loop(config, run):
    bad, passes = 0, run.epochs()
    while True:
        epoch = next(passes)
        bad += LOSSES[epoch - 1] > 0.55
        yield {"loss": bad}


def inside_other_blocks(config, run):
    bad = 0
    try:
        with torch.autograd.set_detect_anomaly(False):
            for number, _ in enumerate(run.epochs()):
                if number > 5:
                    continue
                bad += 1
                yield {"loss": bad}
    finally:
        bad = 0


def outer():
    count = 0

    def a_nonlocal(config, run):
        nonlocal count
        for _ in run.epochs():
            count += 1
            yield {"loss": count}

    return a_nonlocal


CARRYING = {
    counters: ["bad, best", 'numbers = {"bad": ..., "best": ...}'],
    previous_value: ["before", 'numbers = {"before": ...}'],
    a_list: ["losses", "run.epochs(losses=losses)"],
    a_dict: ["best", "run.epochs(best=best)"],
    a_deque: ["window", "make it a list or a dict"],
    a_set: ["seen", "make it a list or a dict"],
    an_array: ["history", "make it a tensor"],
    a_tensor: ["average", "run.epochs(average=average)"],
    a_large_tensor_bound_anew: ["average"],
    attributes: ["stopper.bad", "state_dict() and load_state_dict(state)"],
    attributes_that_are_set: ["state.bad"],
    a_dataclass: ["counts.steps", "counts.seen"],
    a_slot: ["slotted.steps"],
    an_optimizer: ["optimizer", "run.epochs(net=net, optimizer=optimizer)"],
    a_module: ["other", "run.epochs(net=net, other=other)"],
    the_configuration: ["config"],
    an_inner_function: ["steps"],
    a_generator: ["rng", 'rng = run.generator("rng")'],
    a_python_generator: ["rng"],
    a_loader_with_a_generator: ["loader.", "run.batches(data, batch_size)"],
    an_iterator: ["batches", "Make batches in each pass"],
    a_cycle: ["cycle"],
    a_global: ["steps"],
    an_item_of_a_global: ["totals"],
    an_attribute_of_a_class: ["Shared.steps"],
    bytes_of_an_array: ["seen"],
    a_tuple_bound_anew: ["best"],
    a_while_loop: ["bad"],
    inside_other_blocks: ["bad"],
    outer(): ["count"],
}


@pytest.mark.parametrize("function", CARRYING, ids=lambda function: function.__name__)
def test_what_a_loop_carries_and_does_not_name_is_named(function):
    text = warned(function)
    assert f"loop {function.__name__}: " in text
    assert [words for words in CARRYING[function] if words not in text] == [], text


def test_a_counter_that_first_changes_late_is_named_then():
    def late(config, run):
        bad = 0
        for epoch in run.epochs():
            bad += epoch == 5
            yield {"loss": bad}

    assert warned(late, 4) == ""
    assert "bad changes from one epoch to the next" in warned(late, 5)


def test_a_list_that_is_first_added_to_late_is_named_then():
    def late(config, run):
        worse = []
        for epoch in run.epochs():
            if epoch == 5:
                worse.append(epoch)
            yield {"loss": len(worse)}

    assert warned(late, 4) == ""
    assert "worse changes from one epoch to the next" in warned(late, 5)


# Variables of what is named.


def a_module_made_anew(config, run):
    net = nn.Linear(1, 1)
    for epoch in run.epochs(model=net):
        if epoch == 2:
            net = nn.Linear(1, 1)
        yield {"loss": net.weight.sum()}


def a_tensor_made_anew(config, run):
    weight = torch.ones(3)
    for _ in run.epochs(weight=weight):
        weight = weight - 0.1 * weight
        yield {"loss": weight.sum()}


def a_dict_made_anew(config, run):
    stop = {"bad": 0}
    for _ in run.epochs(stop=stop):
        stop = {"bad": stop["bad"] + 1}
        yield {"loss": stop["bad"]}


def an_average_in_its_place(config, run):
    net, mean = nn.Linear(1, 1), nn.Linear(1, 1)
    for epoch in run.epochs(net=net, mean=mean, result=net):
        net = mean if epoch == 2 else net
        yield {"loss": net.weight.sum()}


MOVED = {
    a_module_made_anew: "net is bound to another object in a pass, and run.epochs(model=...) has the first one",
    a_tensor_made_anew: "weight is bound to another object",
    a_dict_made_anew: "stop is bound to another object",
    an_average_in_its_place: "net is bound to another object",
}


@pytest.mark.parametrize("function", MOVED, ids=lambda function: function.__name__)
def test_a_variable_that_no_longer_holds_the_named_object_is_named_once(function):
    text = warned(function)
    assert MOVED[function] in text
    assert "change" not in text.replace("Change that one", "")


def test_a_loop_of_one_epoch_may_not_hand_over_another_module_either():
    def fit(config, run):
        net = nn.Linear(1, 1)
        for _ in run.epochs(net=net):
            net = nn.Linear(1, 1)
            yield {"loss": 1.0}

    with pytest.warns(UserWarning, match="net is bound to another object"):
        run_with_reason(loop(epochs=1)(fit), tn.types.Job(None, {}, tn.Runtime("cpu", threads=1)), 1)


def test_other_names_and_wrappers_of_what_is_named_are_not_warned_of():
    def fit(config, run):
        net, mean = nn.Linear(1, 1), nn.Linear(1, 1)
        target, wrapped = net, SimpleNamespace(inner=mean)
        for epoch in run.epochs(net=net, mean=mean, result=mean):
            for target in (net, net):
                target.zero_grad()
            if epoch == 2:
                net = nn.Sequential(net)
            mean = wrapped
            yield {"loss": 1.0}

    assert warned(fit) == ""


# The iterator of the epochs.


def zipped(config, run):
    for epoch, rate in zip(run.epochs(), [0.1] * 5, strict=False):
        yield {"loss": rate * epoch}


def zipped_behind(config, run):
    for rate, epoch in zip([0.1] * 5, run.epochs(), strict=False):
        yield {"loss": rate * epoch}


def enumerated(config, run):
    for index, epoch in enumerate(run.epochs()):
        yield {"loss": index * epoch}


@pytest.mark.parametrize("function", [zipped, zipped_behind, enumerated], ids=lambda function: function.__name__)
def test_an_iterator_of_the_epochs_that_begins_anew_is_warned_of_once(function):
    assert warned(function).count("Write `for epoch in run.epochs(...):`") == 1


def test_a_progress_bar_over_the_epochs_is_not_warned_of():
    def bar(epochs):
        for epoch in epochs:  # noqa: UP028
            yield epoch

    def fit(config, run):
        epochs = run.epochs()
        for _ in bar(epochs):
            yield {"loss": 1.0}

    assert warned(fit) == ""


def test_a_variable_is_named_once_in_a_process_for_all_trials():
    @loop(epochs=5)
    def trainer(config, run):
        bad = 0
        for _ in run.epochs():
            bad += 2
            yield {"loss": bad}

    job = tn.types.Job(None, {}, tn.Runtime("cpu", threads=1))
    with pytest.warns(UserWarning, match="bad changes from one epoch to the next"):
        run_with_reason(trainer, job, 3)
    run_with_reason(trainer, job, 3)  # warnings are errors


# Loops that carry nothing.


def reset_in_each_pass(config, run):
    total, counts, meter, seen, sums = 0.0, {"n": 0}, Meter(), [], np.zeros(3)
    state = SimpleNamespace(total=0.0)
    for epoch in run.epochs():
        total, counts["n"], state.total = 0.0, 0, 0.0
        meter.reset()
        seen.clear()
        sums[:] = 0
        for row in range(epoch):
            total += row
            counts["n"] += 1
            state.total += row
            meter.update(row)
            seen.append(row)
            sums += row
        yield {"loss": total + counts["n"] + meter.total + len(seen) + sums.sum() + state.total}


def set_by_an_inner_loop(config, run):
    loss = rows = None
    loader = DataLoader(ROWS, batch_size=2, shuffle=True)
    for _ in run.epochs():
        for (rows,) in loader:
            with torch.no_grad():
                loss = rows.sum()
        yield {"loss": loss, "rows": len(rows)}


def set_by_a_closure(config, run):
    net, loss = nn.Linear(1, 1), None
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=2)
    for _ in run.epochs(net=net, optimizer=optimizer):

        def closure():
            nonlocal loss
            optimizer.zero_grad()
            loss = net(torch.ones(4, 1)).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        yield {"loss": loss}


def parts_of_what_is_named(config, run):
    net = nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    numbers = {"best": math.inf, "seen": []}
    parameters, first, both, seen = list(net.parameters()), net[0], [net, optimizer], numbers["seen"]
    view = first.weight.detach()[:2]
    for epoch in run.epochs(net=net, optimizer=optimizer, numbers=numbers):
        optimizer.zero_grad()
        sum(p.square().sum() for p in parameters).backward()
        both[1].step()
        seen.append(epoch)
        numbers["best"] = min(numbers["best"], float(view.sum()))
        yield {"loss": first.bias.sum() + len(seen)}


def iterators_of_each_pass(config, run):
    loader, epoch = DataLoader(ROWS, batch_size=4), 0
    for epoch in run.epochs():
        batches = iter(loader)
        yield {"loss": float(next(batches)[0].sum()) + epoch}


def a_cache(config, run):
    cache, lengths = {}, None
    for _ in run.epochs():
        if "rows" not in cache:
            cache["rows"] = torch.arange(8.0)
        lengths = len(cache)
        yield {"loss": cache["rows"].sum() + lengths}


def an_optimizer_without_memory(config, run):
    net, teacher = nn.Linear(1, 1), nn.Linear(1, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in run.epochs(net=net):
        optimizer.zero_grad()
        (net(torch.ones(4, 1)) - teacher(torch.ones(4, 1))).square().mean().backward()
        optimizer.step()
        yield {"loss": 1.0}


def a_log(config, run):
    log = io.StringIO()
    for epoch in run.epochs():
        log.write(f"{epoch}\n")
        yield {"loss": 1.0}


def a_cell_of_each_pass(config, run):
    scale = 1.0
    for epoch in run.epochs():
        scale = 1.0 / epoch
        yield {"loss": sum(scale * row for row in range(3))}


kept = []


def a_list_outside_that_is_only_written(config, run):
    for epoch in run.epochs():
        kept.append(epoch)
        yield {"loss": 1.0}


def lists_that_are_only_written(config, run):
    losses, history = [], {"loss": [], "n": []}
    for epoch in run.epochs():
        losses.append(epoch)
        history["loss"].append(epoch)
        yield {"loss": 1.0}


def an_item_set_before_it_is_read(config, run):
    numbers = {}
    for epoch in run.epochs():
        numbers["loss"] = float(epoch)
        yield dict(numbers)


def filled_in_each_pass(config, run):
    product, counts, rows = torch.zeros(4, 4), np.zeros(3), []
    for epoch in run.epochs():
        del rows[:]
        counts.fill(0)
        torch.mm(torch.full((4, 4), float(epoch)), torch.eye(4), out=product)
        counts += epoch
        rows.append(epoch)
        yield {"loss": product.sum() + counts.sum() + len(rows)}


CLEAN = [
    reset_in_each_pass, set_by_an_inner_loop, set_by_a_closure, parts_of_what_is_named, iterators_of_each_pass, a_cache,
    an_optimizer_without_memory, a_log, a_cell_of_each_pass, a_list_outside_that_is_only_written,
    lists_that_are_only_written, an_item_set_before_it_is_read, filled_in_each_pass,
]  # fmt: skip


@pytest.mark.parametrize("function", CLEAN, ids=lambda function: function.__name__)
def test_what_is_made_anew_in_each_pass_or_named_is_not_warned_of(function):
    assert warned(function, 4) == ""


def test_an_object_that_raises_when_it_is_looked_into_does_not_stop_a_loop():
    class Odd:
        def __getattr__(self, name):
            raise RuntimeError(name)

        def __bool__(self):
            return True

    def odd(config, run):
        strange = Odd()
        for _ in run.epochs():
            yield {"loss": float(bool(strange))}

    assert warned(odd) == ""


def test_a_loop_of_one_epoch_has_nothing_to_carry():
    job = tn.types.Job(None, {}, tn.Runtime("cpu", threads=1))
    run_with_reason(loop(epochs=1)(counters), job, 1)  # warnings are errors
