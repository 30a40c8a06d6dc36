"""Sanitizer modules: levels, medians, and gradients past them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tuneflow.heuristics.sanitizing import (
    FilteredInputs,
    RoundedInputs,
    SanitizedInputs,
    StraightThrough,
    median_of,
    sanitizers_in,
    straight_through,
    with_sanitizers,
)


@pytest.mark.parametrize("levels", [2, 4, 16, 256])
def test_rounding_gives_levels_of_equal_distance_and_both_ends(levels):
    outputs = RoundedInputs(0, 16, levels)(torch.linspace(0, 16, 4001))
    torch.testing.assert_close(outputs.unique(), torch.linspace(0, 16, levels))
    assert (outputs[0], outputs[-1]) == (0, 16)


def test_rounding_moves_no_value_further_than_half_a_step_and_no_level_at_all():
    rounding, values = RoundedInputs(-1, 2, 8), torch.linspace(-1, 2, 1000)
    outputs = rounding(values)
    assert (outputs - values).abs().max() <= 3 / 7 / 2 + 1e-6
    assert torch.equal(rounding(outputs), outputs)


def test_rounding_takes_ties_up_and_what_is_beyond_to_the_ends():
    values = torch.tensor([-3.0, 0.5, 1.5, 2.5, 99.0])
    assert RoundedInputs(0, 3, 4)(values).tolist() == [0, 1, 2, 3, 3]


def test_bytes_become_floats_that_eight_bits_leave_as_they_are():
    values = torch.arange(256, dtype=torch.uint8)
    outputs = RoundedInputs(0, 255, 256)(values)
    assert outputs.dtype == torch.float32
    assert torch.equal(outputs, values.float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_halves_are_rounded_as_floats(dtype):
    values, rounding = torch.linspace(0, 255, 100).to(dtype), RoundedInputs(0, 255, 65536)
    assert torch.equal(rounding(values), rounding(values.float()).to(dtype))


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8])
def test_filter_is_the_median_of_each_window(size, dtype):
    images = torch.randint(0, 9, (3, 2, 6, 7), generator=torch.Generator().manual_seed(size)).to(dtype)
    images[0, 0, 0, 0] = 200
    inside = F.pad(images.double(), [size // 2] * 4, mode="reflect")
    windows = inside.unfold(2, size, 1).unfold(3, size, 1).flatten(-2)
    outputs = FilteredInputs(size)(images)
    assert outputs.is_floating_point()
    assert torch.equal(outputs.double(), windows.median(-1).values)


@pytest.mark.parametrize("exporting", [False, True], ids=["running", "exporting"])
@pytest.mark.parametrize("count", [1, 3, 5, 7, 9, 25])
def test_median_of_an_odd_number_of_tensors(count, exporting, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    planes = torch.randn(count, 50, generator=torch.Generator().manual_seed(count))
    assert torch.equal(median_of(list(planes)), planes.median(0).values)


def test_sanitizers_of_one_kind_take_the_place_of_those_before():
    inner = nn.Identity()
    first = with_sanitizers(inner, [RoundedInputs(0, 1, 4), FilteredInputs(3)])
    second = with_sanitizers(first, [RoundedInputs(0, 1, 2)])
    assert [(each.kind, each.settings.get("levels")) for each in second.sanitizers] == [
        ("median", None),
        ("rounding", 2),
    ]
    assert second.normalizer is inner
    assert len(first.sanitizers) == 2


class Own(nn.Module):
    """A sanitizer that is not one of ours."""

    sanitizes = True

    def forward(self, x):
        return x.sign()


@pytest.mark.parametrize(
    "sanitizer", [RoundedInputs(0, 1, 4), FilteredInputs(3), Own()], ids=["round", "median", "own"]
)
def test_straight_through_changes_the_gradient_alone(sanitizer):
    body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    module = nn.Sequential(SanitizedInputs([sanitizer], None), body).eval()
    other = straight_through(module)
    images = torch.rand(2, 1, 5, 5, requires_grad=True)
    assert torch.equal(other(images), module(images))
    cleaned = sanitizer(images).detach().requires_grad_()
    (expected,) = torch.autograd.grad(body(cleaned).square().sum(), cleaned)
    (gradient,) = torch.autograd.grad(other(images).square().sum(), images)
    torch.testing.assert_close(gradient, expected)


def test_straight_through_shares_tensors_and_hooks_and_leaves_the_module():
    module, calls = nn.Sequential(SanitizedInputs([Own()], nn.Linear(2, 2)), nn.Linear(2, 2)), []
    module[0].register_forward_hook(lambda *_: calls.append(1))
    straight_through(module)(torch.ones(1, 2))
    assert calls == [1]
    other = straight_through(module)
    assert [id(p) for p in other.parameters()] == [id(p) for p in module.parameters()]
    assert type(module[0].sanitizers[0]) is Own
    assert type(other[0].sanitizers[0]) is StraightThrough
    assert len(sanitizers_in(module)) == 1
