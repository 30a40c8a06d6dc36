"""Latency measures under stated conditions, in turns with its reference; and it leaves everything as it was."""

import gc
import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import tuneflow as tn
from tuneflow.measure import Latency
from tuneflow.measure.latency import error_of_median

SHORT = {"seconds": 0.01}


class Recorder(nn.Module):
    """Records the circumstances of every forward pass."""

    def __init__(self, log=None, name="mine"):
        super().__init__()
        self.inner, self.log, self.name = nn.Linear(4, 3), [] if log is None else log, name

    def forward(self, x):
        self.log.append((self.name, len(x), torch.get_num_threads(), self.training, torch.is_grad_enabled()))
        self.collected = gc.isenabled()
        return self.inner(x)


@pytest.mark.parametrize("rows", [2, 9])
def test_it_runs_on_real_rows_repeated_where_there_are_fewer(rows):
    module = Recorder().train()
    threads = torch.get_num_threads()
    measured = Latency(batch=5, threads=2, **SHORT).of_module(module, torch.randn(rows, 4))
    assert set(module.log) == {("mine", 5, 2, False, False)}
    assert not module.collected
    assert measured.value > 0 <= measured.error < math.inf
    assert (module.training, torch.get_num_threads(), gc.isenabled()) == (True, threads, True)


X, Y = torch.randn(6, 4), torch.zeros(6)


@pytest.mark.parametrize(
    "data", [X, (X, Y), (X, None), tn.Data(X, Y), TensorDataset(X, Y)], ids=lambda data: type(data).__name__
)
def test_data_may_be_what_a_trainer_takes_or_inputs_alone(data):
    module = Recorder()
    Latency(batch=3, **SHORT).of_module(module, data)
    assert {rows for _, rows, *_ in module.log} == {3}


class OfTwo(nn.Module):
    def forward(self, left, right):
        return left + right


@pytest.mark.parametrize("inputs", [{"left": X, "right": X}, ((X, X), None)], ids=["dict", "pair"])
def test_several_inputs_are_spread_over_the_arguments_of_forward(inputs):
    assert Latency(**SHORT).of_module(OfTwo(), inputs).value > 0


def clock_with(seconds, monkeypatch):
    """Have a forward pass of each named module take so many seconds."""

    def clock(call, count):
        log = call.__closure__[1].cell_contents.log
        del log[:]
        call()
        return count * seconds[log[0][0]]

    monkeypatch.setattr("tuneflow.measure.latency.clock_of", lambda *_: clock)


def test_a_reference_is_measured_in_turns_and_gives_the_ratio(monkeypatch):
    clock_with({"mine": 0.02, "other": 0.08}, monkeypatch)
    modules = Recorder(), Recorder(name="other")
    relative = Latency(relative=True, **SHORT).of_module(modules[0], X, reference=modules[1])
    in_units = Latency(**SHORT).of_module(modules[0], X, reference=modules[1], unit=100.0)
    alone = Latency(**SHORT).of_module(modules[0], X, reference=modules[1])
    assert [measured.value for measured in (relative, in_units, alone)] == pytest.approx([0.25, 25.0, 20.0])


def test_the_order_is_module_reference_module_reference():
    log = []
    Latency(**SHORT).of_module(Recorder(log), X, reference=Recorder(log, "other"))
    turns = [name for name, *_ in log]
    changes = [turns[0], *(b for a, b in pairwise(turns) if a != b)]
    assert changes == ["mine", "other"] * (len(changes) // 2)
    assert len(changes) >= 8


def test_relative_needs_a_reference():
    with pytest.raises(ValueError, match=r"relative=True needs a reference .* Drop relative"):
        Latency(relative=True).of_module(nn.Linear(4, 3), X)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"threads": 1.5}, {"seconds": 0}])
def test_arguments_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match=f"Latency: {next(iter(wrong))} needs"):
        Latency(**wrong)


def test_every_argument_is_in_the_repr():
    assert repr(Latency(64, 2, True, 1.0)) == "Latency(batch=64, threads=2, relative=True, seconds=1.0)"


def test_the_error_of_the_median_covers_it():
    draws = torch.randn(2000, 25, generator=torch.Generator().manual_seed(0))
    errors = [error_of_median(row) for row in draws.tolist()]
    assert sum(errors) / len(errors) == pytest.approx(draws.median(1).values.std().item(), rel=0.08)
