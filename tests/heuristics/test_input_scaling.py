"""Input normalization: what it does to every kind of input, and what it leaves alone."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tests.helpers.hooks import hooks_of
from tests.helpers.space_strategies import laws
from tuneflow.heuristics.input_scaling import NormalizedModule, Normalizer, cast_only, fit
from tuneflow.heuristics.input_uses import uses_of

SHAPES = {"numbers": (), "vectors": (4,), "sequences": (5, 4), "images": (3, 6, 5), "volumes": (2, 3, 4, 5)}
shapes = st.sampled_from(list(SHAPES.values()))
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def over(shape):
    """The dimensions that one mean is taken over: a reference that spells out every case."""
    return {(): (0,), (4,): (0,), (5, 4): (0, 1, 2), (3, 6, 5): (0, 2, 3), (2, 3, 4, 5): (0, 2, 3, 4)}[shape]


# Laws.


@laws
@given(shapes, st.integers(0, 1000), st.floats(-50, 50).filter(lambda shift: abs(shift) > 0.1), st.floats(0.01, 100))
def test_normalized_inputs_have_mean_0_and_deviation_1(shape, seed, shift, scale):
    inputs = normal(200, *shape, seed=seed) * scale + shift * scale
    made = fit([inputs])(inputs)
    dimensions = over(shape) if len(shape) != 1 else (0, 1)
    assert made.mean(dimensions).abs().max() < 1e-3
    assert (made.std(dimensions, correction=0) - 1).abs().max() < 1e-3


@laws
@given(shapes, st.integers(2, 60), st.lists(st.integers(1, 59), max_size=5), st.integers(0, 1000))
def test_moments_in_pieces_equal_those_at_once(shape, n, cuts, seed):
    inputs = normal(n, *shape, seed=seed) * 3 + 100
    ends = sorted({0, n, *(cut for cut in cuts if cut < n)})
    once, pieces = fit([inputs]), fit(inputs[i:j] for i, j in pairwise(ends))
    torch.testing.assert_close(pieces.mean, once.mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(pieces.std, once.std, rtol=1e-5, atol=0)


@laws
@given(shapes, st.integers(0, 1000), st.floats(-100, 100))
def test_bytes_or_fractions_give_the_same_normalized_values(shape, seed, shift):
    inputs = normal(50, *shape, seed=seed) + 1
    scaled = inputs * 255 + shift
    torch.testing.assert_close(fit([scaled])(scaled), fit([inputs])(inputs), rtol=1e-3, atol=1e-3)


@laws
@given(st.integers(0, 1000), st.floats(0.1, 9))
def test_features_that_vary_alike_stay_so_with_constant_ones_beside_them(seed, shift):
    """The constant ones are constant up to rounding only, as 0.1 is when it is summed."""
    inputs = normal(100, 20, seed=seed, dtype=torch.float64)
    inputs[:, :5] = 0
    assert fit([inputs * 255]).mean.numel() == fit([inputs * 255 + shift]).mean.numel() == 1


@laws
@given(st.integers(-20, 20), st.integers(0, 1000))
def test_units_do_not_matter(power, seed):
    inputs = normal(50, 3, 2, 2, seed=seed) + 1
    scaled = inputs * 10.0**power
    torch.testing.assert_close(fit([scaled])(scaled), fit([inputs])(inputs), rtol=1e-3, atol=1e-3)


@every_shape
def test_fitting_reads_its_batches_and_changes_nothing(shape):
    inputs = normal(9, *shape) + 3
    kept = inputs.clone()
    with generators_untouched():
        fit(iter([inputs]))(inputs)
    assert torch.equal(inputs, kept)


@every_shape
def test_inputs_that_are_standardized_are_left_alone(shape):
    inputs = normal(400, *shape)
    dimensions = over(shape)
    inputs = (inputs - inputs.mean(dimensions, keepdim=True)) / inputs.std(dimensions, correction=0, keepdim=True)
    assert fit([inputs]) is None
    assert fit([inputs * 1.04 + 0.04]) is None
    assert fit([inputs + 0.1]) is not None
    assert fit([inputs * 1.1]) is not None


# Closed forms.


def test_images_have_one_pair_for_each_channel():
    inputs = torch.stack([normal(50, 4, 4) * 2 + 10, normal(50, 4, 4, seed=1) - 5], 1)
    made = fit([inputs])
    assert made.mean.shape == made.std.shape == (1, 2, 1, 1)
    assert made.mean.flatten().tolist() == pytest.approx(inputs.mean((0, 2, 3)).tolist(), rel=1e-5)
    assert made.std.flatten().tolist() == pytest.approx(inputs.std((0, 2, 3), correction=0).tolist(), rel=1e-5)


def test_vectors_of_unlike_features_have_one_pair_for_each():
    inputs = normal(100, 3) * torch.tensor([1.0, 1000.0, 0.01]) + torch.tensor([5.0, 0.0, 1.0])
    made = fit([inputs])
    assert made.mean.flatten().tolist() == pytest.approx(inputs.mean(0).tolist(), rel=1e-5)
    assert made.std.flatten().tolist() == pytest.approx(inputs.std(0, correction=0).tolist(), rel=1e-5)


def test_vectors_of_like_features_have_one_pair():
    inputs = normal(100, 3) * torch.tensor([1.0, 2.0, 3.0]) + torch.tensor([5.0, 0.0, 1.0])
    made = fit([inputs])
    assert made.mean.shape == made.std.shape == (1, 1)
    assert made.mean.item() == pytest.approx(inputs.mean().item(), rel=1e-5)
    assert made.std.item() == pytest.approx(inputs.std(correction=0).item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(), (5, 4)], ids=["numbers", "sequences"])
def test_other_shapes_have_one_pair(shape):
    inputs = normal(30, *shape) * 4 + 2
    made = fit([inputs])
    assert made.mean.numel() == made.std.numel() == 1
    assert made.mean.item() == pytest.approx(inputs.mean().item(), rel=1e-5)
    assert made.std.item() == pytest.approx(inputs.std(correction=0).item(), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 7.0, -3e4])
@every_shape
def test_constant_inputs_become_zero(value, shape):
    inputs = torch.full((9, *shape), value)
    assert fit([inputs])(inputs).abs().max() <= 1e-6 * max(1, abs(value))


@pytest.mark.parametrize("scales", [[1.0, 0.0, 1000.0, 1e-3], [1.0, 0.0, 2.0, 3.0]], ids=["unlike", "alike"])
def test_constant_feature_among_others_stays_finite(scales):
    inputs = normal(50, 4) * torch.tensor(scales) + 0.1
    made = fit([inputs])(inputs)
    assert made.isfinite().all()
    assert made[:, 1].std() < 1e-6


@pytest.mark.parametrize("scales", [[1.0, 1000.0], [1.0, 1000.0, 1000.0], [1.0, 1.0, 1000.0]], ids=str)
def test_few_features_of_unlike_ranges_have_one_pair_for_each(scales):
    assert fit([normal(100, len(scales)) * torch.tensor(scales)]).std.numel() == len(scales)


def test_one_row_is_enough():
    assert fit([torch.tensor([[1.0, 5.0]])])(torch.tensor([[1.0, 5.0]])).isfinite().all()


@pytest.mark.parametrize("shape", [(9, 1, 4, 4), (9, 3, 4, 4), (9, 4, 4), (9, 16)], ids=str)
def test_byte_images_become_floats_of_mean_0_and_deviation_1(shape):
    inputs = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    made = fit([inputs])(inputs)
    assert made.dtype == torch.float32
    assert made.mean().abs() < 1e-4
    assert made.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_bytes_that_are_standardized_already_are_still_cast():
    inputs = torch.zeros(21, 21, dtype=torch.uint8)
    inputs[0, 0] = 21  # mean 0.048, standard deviation 0.999
    assert fit([inputs.float()]) is None
    assert fit([inputs])(inputs).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.bool])
@every_shape
def test_integers_and_flags_are_left_alone(dtype, shape):
    assert fit([torch.ones(9, *shape, dtype=dtype)]) is None


@pytest.mark.parametrize(
    "inputs", [(torch.ones(3), torch.ones(3)), {"a": torch.ones(3)}, ["text"], torch.arange(3, dtype=torch.uint8)]
)
def test_what_is_not_one_tensor_of_numbers_is_left_alone(inputs):
    assert fit([inputs]) is None


def test_no_batches_give_no_normalizer():
    assert fit([]) is None


def test_digits_are_normalized_by_one_pair():
    train, _, _ = tn.data.digits()
    made = fit(inputs for inputs, _ in train.batches(100))
    assert made.mean.item() == pytest.approx(train.inputs.mean().item(), rel=1e-5)
    assert made.std.item() == pytest.approx(train.inputs.std(correction=0).item(), rel=1e-5)


def test_normalizer_moves_to_a_device():
    there = Normalizer(torch.ones(1), torch.ones(1)).to(torch.device("meta"))
    assert there.mean.device.type == there.std.device.type == "meta"


def test_cast_makes_bytes_floats_and_leaves_others():
    inputs = torch.tensor([[0, 255]], dtype=torch.uint8)
    assert cast_only(inputs)(inputs).tolist() == [[0.0, 255.0]]
    assert cast_only(torch.ones(2)) is None


def test_normalized_module_takes_raw_inputs_and_keeps_the_names_of_its_weights():
    inputs, inner = normal(8, 3) * 5 + 9, nn.Linear(3, 2)
    front = fit([inputs])
    whole = NormalizedModule(inner, front)
    assert torch.equal(whole(inputs), inner(front(inputs)))
    assert whole.module is inner
    assert {"module.weight", "module.bias", "normalizer.mean", "normalizer.std"} == whole.state_dict().keys()
    assert whole(inputs.double()).dtype == torch.float32


# Modules that normalize by themselves.


class Normalize(nn.Module):
    def forward(self, inputs):
        return inputs / 255


class Backwards(nn.Module):
    """Declares its norm first and runs it last."""

    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)

    def forward(self, inputs):
        return self.norm(self.conv(inputs))


class Counting(nn.Module):
    """Counts its forward passes, whatever its mode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, inputs):
        self.passes += 1
        return self.conv(inputs)


STARTS = {
    "batch norm": (lambda: nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)), True),
    "batch norm alone": (lambda: nn.BatchNorm2d(2), True),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm([2, 3, 3]), nn.Flatten()), True),
    "group norm": (lambda: nn.Sequential(nn.GroupNorm(1, 2), nn.Conv2d(2, 2, 1)), True),
    "instance norm": (lambda: nn.Sequential(nn.InstanceNorm2d(2), nn.Conv2d(2, 2, 1)), True),
    "rms norm": (lambda: nn.Sequential(nn.RMSNorm([2, 3, 3]), nn.Flatten()), True),
    "own class": (lambda: nn.Sequential(Normalize(), nn.Conv2d(2, 2, 1)), True),
    "deep inside": (lambda: nn.Sequential(nn.Sequential(nn.Sequential(nn.BatchNorm2d(2))), nn.ReLU()), True),
    "conv": (lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)), False),
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(18, 3), nn.Dropout(0.5)), False),
    "declared first": (Backwards, False),
    "nothing": (nn.Sequential, False),
    "counting": (Counting, False),
}
every_module = pytest.mark.parametrize("make", [make for make, _ in STARTS.values()], ids=STARTS.keys())


def tensors(module):
    return {name: (value, value.clone()) for name, value in module.state_dict(keep_vars=True).items()}


@pytest.mark.parametrize(("make", "wanted"), STARTS.values(), ids=STARTS.keys())
def test_first_layer_that_runs_decides(make, wanted):
    assert uses_of(make(), normal(4, 2, 3, 3)).scales is wanted


@every_module
def test_looking_at_a_module_leaves_it_bit_for_bit_as_it_was(make):
    module = make()
    for number, part in enumerate(module.modules()):
        part.training = number % 2 == 0
        part.register_forward_pre_hook(lambda *_: None)
        part.register_forward_hook(lambda *_: None)
    kept = tensors(module)
    modes = [part.training for part in module.modules()]
    hooks = hooks_of(module)
    with generators_untouched():
        uses_of(module, normal(4, 2, 3, 3))
    assert [part.training for part in module.modules()] == modes
    assert hooks_of(module) == hooks
    for name, value in module.state_dict(keep_vars=True).items():
        assert value is kept[name][0]
        assert torch.equal(value, kept[name][1]), name
        assert value.grad is None


def test_module_that_raises_is_left_as_it_was():
    module = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(99, 2, 1))
    assert uses_of(module, normal(4, 2, 3, 3)).scales
    assert all(part.training for part in module.modules())
    assert hooks_of(module) == []
