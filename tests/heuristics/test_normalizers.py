"""Kinds of normalization: closed forms, what each takes, and what it refuses."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

from tuneflow.heuristics.normalizers import checked, described, fit_kind
from tuneflow.heuristics.whitening import RIDGE


class Inputs:
    """Training inputs in batches of 7 rows."""

    def __init__(self, inputs):
        self.inputs = inputs

    def batches(self):
        if isinstance(self.inputs, torch.Tensor):
            return iter(self.inputs.split(7))
        return iter([self.inputs])

    def sample(self):
        return self.inputs


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def correlated(rows=400, columns=5):
    return normal(rows, columns) @ normal(columns, columns, seed=1) * torch.tensor([1.0, 9, 1e3, 1e-2, 4]) + 7


def fitted(kind, inputs):
    normalizer = fit_kind(checked(kind), Inputs(inputs))
    return inputs if normalizer is None else normalizer(inputs)


# Whitening.


def test_whitened_columns_have_unit_variance_and_no_correlation():
    white = fitted("whiten", correlated()).double()
    covariance = white.T @ white / len(white)
    torch.testing.assert_close(covariance, torch.eye(5, dtype=torch.float64), rtol=0, atol=0.1)
    assert white.mean(0).abs().max() < 1e-3


def test_whitening_shrinks_an_eigenvalue_of_the_correlations_by_the_ridge():
    inputs = correlated()
    white = fitted("whiten", inputs).double()
    expected = np.linalg.eigvalsh(np.corrcoef(inputs.double().numpy().T))
    values = np.linalg.eigvalsh((white.T @ white / len(white)).numpy())
    np.testing.assert_allclose(values, np.sort(expected / (expected + RIDGE)), rtol=1e-3)


def test_units_of_a_column_do_not_show_in_the_whitened_one():
    inputs = correlated()
    other = inputs * torch.tensor([1e3, 1, 1e-3, 5, 1]) - 4
    torch.testing.assert_close(fitted("whiten", other), fitted("whiten", inputs), rtol=1e-3, atol=2e-3)


def test_each_whitened_column_is_closest_to_its_own():
    inputs = correlated()
    both = torch.corrcoef(torch.cat([inputs.T, fitted("whiten", inputs).T]))[:5, 5:]
    assert both.argmax(1).tolist() == list(range(5))
    assert (both.diagonal() > 0).all()


def test_whitening_of_repeated_and_constant_columns_is_bounded():
    inputs = normal(100, 2)
    inputs = torch.cat([inputs, inputs[:, :1], torch.full((100, 1), 3.0)], 1)
    normalizer = fit_kind("whiten", Inputs(inputs))
    assert normalizer(inputs).isfinite().all()
    assert normalizer(inputs)[:, 3].abs().max() < 1e-5
    assert normalizer.matrix.abs().max() < 1 / RIDGE**0.5


def test_images_are_whitened_over_all_their_pixels_and_stay_images():
    images = (normal(300, 1, 2, 2) + normal(300, 1, 1, 1, seed=1)) * 100 + 30
    white = fitted("whiten", images)
    assert white.shape == images.shape
    pixels = white.flatten(1)
    assert (torch.corrcoef(pixels.T) - torch.eye(4)).abs().max() < 0.05


def test_sequences_are_whitened_over_their_last_dimension():
    steps = correlated(600).reshape(100, 6, 5)
    torch.testing.assert_close(fitted("whiten", steps).reshape(600, 5), fitted("whiten", steps.reshape(600, 5)))


def test_too_many_columns_are_refused():
    with pytest.raises(ValueError, match="up to 4,096 columns, got 3x40x40 = 4,800 numbers a row; normalize=True"):
        fitted("whiten", torch.zeros(8, 3, 40, 40))


# Ranges and quartiles.


@pytest.mark.parametrize("shape", [(), (4,), (5, 4), (3, 4, 4)])
def test_minmax_maps_the_training_rows_to_0_and_1(shape):
    values = fitted("minmax", normal(60, *shape) * 9 + 5)
    over = {0: (0,), 1: (0,), 2: (0, 1, 2), 3: (0, 2, 3)}[len(shape)]
    torch.testing.assert_close(values.amin(over), torch.zeros_like(values.amin(over)))
    torch.testing.assert_close(values.amax(over), torch.ones_like(values.amax(over)))


def test_bytes_become_numbers_from_0_to_1():
    inputs = torch.arange(256, dtype=torch.uint8).reshape(64, 4)
    assert fitted("minmax", inputs).aminmax() == (0.0, 1.0)


def test_robust_subtracts_the_median_and_divides_by_the_interquartile_range():
    inputs = normal(101, 3) * 5 + 2
    low, middle, high = np.quantile(inputs.numpy(), [0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose(fitted("robust", inputs), (inputs.numpy() - middle) / (high - low), rtol=1e-4, atol=1e-4)


def test_robust_is_not_moved_by_outliers():
    inputs = normal(101, 3)
    wild = inputs.clone()
    wild[:5] = 1e6
    torch.testing.assert_close(fitted("robust", wild)[5:], fitted("robust", inputs)[5:], rtol=0.2, atol=0.2)


def test_robust_divides_a_column_that_is_mostly_zero_by_its_deviation():
    inputs = torch.zeros(100, 1)
    inputs[:10] = 10.0
    torch.testing.assert_close(fitted("robust", inputs), inputs / 3.0)


@pytest.mark.parametrize("kind", ["whiten", "minmax", "robust", [0]])
def test_constant_column_becomes_zero(kind):
    inputs = torch.cat([torch.full((50, 1), 0.1), normal(50, 1) * 5], 1)
    assert fitted(kind, inputs)[:, 0].abs().max() < 1e-5


# Columns and parts.


def test_columns_are_standardized_and_the_others_stay_bit_for_bit():
    inputs = correlated()
    values = fitted([2, -1], inputs)
    assert torch.equal(values[:, [0, 1, 3]], inputs[:, [0, 1, 3]])
    assert values[:, [2, 4]].mean(0).abs().max() < 1e-4
    torch.testing.assert_close(values[:, [2, 4]].std(0, correction=0), torch.ones(2))


def test_columns_of_sequences_are_those_of_the_last_dimension():
    steps = correlated(600).reshape(100, 6, 5)
    torch.testing.assert_close(fitted([0], steps).reshape(600, 5), fitted([0], steps.reshape(600, 5)))


@pytest.mark.parametrize("container", [dict, list, tuple])
def test_parts_of_nested_inputs_are_standardized_by_key(container):
    parts = {"numbers": correlated(), "codes": torch.arange(400)}
    inputs = parts if container is dict else container(parts.values())
    key, other = ("numbers", "codes") if container is dict else (0, 1)
    values = fitted([key], inputs)
    assert type(values) is container
    assert torch.equal(values[other], inputs[other])
    torch.testing.assert_close(values[key].std(0, correction=0), torch.ones(5))


def test_columns_have_kinds_of_their_own():
    inputs = correlated()
    values = fitted({0: "minmax", (1, 4): "whiten", 2: True, 3: False}, inputs)
    torch.testing.assert_close(values[:, :1], fitted("minmax", inputs[:, :1]))
    torch.testing.assert_close(values[:, [1, 4]], fitted("whiten", inputs[:, [1, 4]]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(values[:, 2:3], fitted([0], inputs[:, 2:3]))
    assert torch.equal(values[:, 3], inputs[:, 3])


def test_parts_have_kinds_of_their_own():
    inputs = {"a": correlated(), "b": normal(400, 3), "c": normal(400, 2) + 9}
    values = fitted({"a": "whiten", "b": "minmax", "c": False}, inputs)
    assert torch.equal(values["a"], fitted("whiten", inputs["a"]))
    assert torch.equal(values["b"], fitted("minmax", inputs["b"]))
    assert values["c"] is inputs["c"]


REFUSED = {
    "unknown word": ("whitten", normal(9, 2), ValueError, "got 'whitten'. Did you mean \"whiten\""),
    "number": (3, normal(9, 2), TypeError, "got 3"),
    "column of another kind": ([0.5], normal(9, 2), TypeError, "by number, or parts of a dict by key, got 0.5"),
    "column beyond": ([2], normal(9, 2), ValueError, "names column 2, and the inputs have 2 columns, from 0 to 1"),
    "name of a column": (["age"], normal(9, 2), ValueError, "names column 'age', and the inputs have 2 columns"),
    "columns of images": ([0], normal(9, 1, 2, 2), ValueError, "channel by channel"),
    "tokens": (
        "whiten",
        torch.ones(9, 2).long(),
        TypeError,
        "got a tensor of int64; normalize=True leaves those alone",
    ),
    "columns of tokens": ([0], torch.ones(9, 2, dtype=torch.int64), TypeError, "got a tensor of int64"),
    "dict": ("minmax", {"numbers": normal(9, 2)}, TypeError, "normalize={'numbers': 'minmax'}"),
    "word for a part": ({"numbers": "minmix"}, {"numbers": normal(9, 2)}, TypeError, "got 'minmix' for 'numbers'"),
    "column twice": ({0: "minmax", (1, -2): "whiten"}, normal(9, 2), ValueError, "names column -2 twice"),
    "unknown part": (["number"], {"numbers": normal(9, 2)}, ValueError, 'Did you mean "numbers"'),
}


@pytest.mark.parametrize(("kind", "inputs", "error", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused_by_name(kind, inputs, error, words):
    with pytest.raises(error) as raised:
        fitted(kind, inputs)
    assert words in str(raised.value)
    assert str(raised.value).endswith((".", "?"))


# Objects.


class Center:
    """Subtracts a quantile of each column."""

    def __init__(self, share=0.5):
        self.share = share

    def fit(self, inputs):
        front = nn.Linear(inputs.shape[1], inputs.shape[1])
        with torch.no_grad():
            front.weight.copy_(torch.eye(inputs.shape[1]))
            front.bias.copy_(-inputs.quantile(self.share, dim=0))
        return front


@pytest.mark.parametrize("kind", [Center(0.0), functools.partial(Center, share=0.0)])
def test_object_fits_a_module_of_its_own(kind):
    inputs = correlated()
    normalizer = fit_kind(checked(kind), Inputs(inputs))
    torch.testing.assert_close(normalizer(inputs), inputs - inputs.amin(0))
    assert not any(p.requires_grad for p in normalizer.parameters())


def test_object_that_fails_or_returns_no_module_is_refused():
    class Scaler:
        def fit(self, inputs):
            return self if inputs.ndim == 2 else inputs.missing

    with pytest.raises(TypeError, match=r"fit needs to return a torch.nn.Module that takes raw inputs, got Scaler"):
        fitted(Scaler(), correlated())
    with pytest.raises(ValueError, match="fit fails on the training rows: AttributeError"):
        fitted(Scaler(), normal(9, 2, 2))


def test_kinds_are_described_without_addresses():
    kinds = [
        True,
        "whiten",
        checked((0, 2)),
        checked({"a": "robust"}),
        Center(0.1),
        Center,
        functools.partial(Center, share=0.2),
    ]
    words = ["True", "'whiten'", "[0, 2]", "{'a': 'robust'}", "Center(share=0.1)", "Center", "Center(share=0.2)"]
    assert [described(kind) for kind in kinds] == words
