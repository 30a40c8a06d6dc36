"""Parameters and bytes by hand, of float and int8 modules; peak memory is the same in each run."""

import warnings

import pytest
import torch
from torch import nn

from tests.helpers.measured_networks import convnet, quantized
from tests.helpers.small_networks import Tied
from tuneflow.measure import Bytes, Parameters, PeakMemory

X = torch.randn(2, 1, 8, 8)
WEIGHTS, BIASES = 36 + 144 + 320, 4 + 8 + 10


def test_parameters_count_once_and_buffers_not_at_all():
    assert Parameters().of_module(convnet(), X) == WEIGHTS + BIASES + 8
    assert Parameters().of_module(Tied(), None) == 64 * 64 + 2 * 64 + 64 * 10 + 10


@pytest.mark.parametrize("scripts", [False, True])
def test_an_int8_module_has_its_weights_in_bytes_and_its_biases_in_floats(scripts):
    int8 = quantized(convnet(), X)  # BatchNorm is inside of the convolution
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(int8) if scripts else int8
    assert Parameters().of_module(module, X) == WEIGHTS + BIASES
    scales = Bytes().of_module(module, X) - WEIGHTS - 4 * BIASES
    assert 16 * (4 + 8 + 10) <= scales <= 16 * (4 + 8 + 10) + 100  # of each output, and of each layer


def test_dynamically_quantized_layers_count_too():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recurrent = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.LSTM(3, 4)), {nn.LSTM})
    assert Parameters().of_module(recurrent, None) == 16 * 3 + 16 * 4 + 2 * 16


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_bytes_are_those_of_the_dtype_with_buffers(dtype, size):
    norm = nn.BatchNorm1d(3).to(dtype)
    assert Bytes().of_module(norm, None) == 2 * 3 * size + 2 * 3 * size + 8  # and the number of batches


def test_a_frozen_script_is_refused_by_name():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frozen = torch.jit.freeze(torch.jit.script(convnet().eval()))
    with pytest.raises(TypeError, match=r"frozen TorchScript .* before torch.jit.freeze"):
        Bytes().of_module(frozen, X)


class TwoBranches(nn.Module):
    def forward(self, x):
        large = x.repeat(1, 4)  # alive until both sums are there
        return large[:, :2] + large.sum(1, keepdim=True)


def test_peak_memory_is_what_lives_at_once():
    # inputs 2 x 3, repeated 2 x 12, sums 2 x 1, outputs 2 x 2; a view holds no memory of its own
    assert PeakMemory(batch=2).of_module(TwoBranches(), torch.ones(2, 3)) == 4 * (6 + 24 + 2 + 4)


def test_peak_memory_repeats_grows_with_the_batch_and_frees_what_is_dropped():
    deep = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(5)])
    x = torch.ones(3, 8)
    sizes = [PeakMemory(batch=batch).of_module(deep, x) for batch in (1, 1, 7)]
    weights = 4 * 5 * 72
    tensors = 1 + 3  # the inputs; and of one block its inputs and two outputs
    assert sizes == [weights + tensors * 32, weights + tensors * 32, weights + 7 * tensors * 32]


@pytest.mark.parametrize("batch", [0, 1.5, True])
def test_a_batch_that_is_no_number_of_rows_is_refused(batch):
    with pytest.raises(ValueError, match="PeakMemory: batch needs to be a whole number >= 1"):
        PeakMemory(batch)
