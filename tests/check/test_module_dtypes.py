"""A module of another dtype than its data is refused with the way to train in that dtype, and that way works."""

import pytest
import torch
from torch import nn

from tests.helpers.dry_run_cases import CLASSES, IMAGES, check, net


def converted(dtype):
    return lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 10, dtype=dtype))


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (torch.float64, "leave out the conversion of the model, such as .double(), or call torch.set_default_dtype("),
        (torch.float16, 'tn.Runtime(precision="fp16") computes in 16 bits'),
        (torch.bfloat16, 'tn.Runtime(precision="bf16") computes in 16 bits'),
        (torch.complex64, "take x.to(torch.complex64) at the start of the model"),
    ],
)
def test_a_module_of_another_dtype_is_refused_with_the_way_out(dtype, said):
    with pytest.raises(TypeError) as caught:
        check(converted(dtype), (IMAGES.double(), CLASSES))
    assert said in str(caught.value)


def test_inputs_that_the_model_converts_itself_are_told_of_its_dtype():
    with pytest.raises(TypeError, match=r"give the inputs as float32, with x.to\(torch.float32\) at the start"):
        check(net(lambda s, x: s.layer(x.double())))


def test_the_default_dtype_makes_all_of_it_float64():
    torch.set_default_dtype(torch.float64)
    try:
        check(converted(torch.float64), (IMAGES.double(), CLASSES))
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_complex_module_that_converts_its_inputs_trains():
    class Spectrum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(192, 10, dtype=torch.complex64)

        def forward(self, x):
            return self.layer(x.flatten(1).to(torch.complex64)).abs()

    check(Spectrum)
