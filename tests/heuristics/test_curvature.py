"""Curvature: closed forms, what the learning rates do, and what is left as it was."""

import json
import math
from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tests.helpers.global_generators import generators_untouched
from tests.helpers.space_strategies import laws
from tuneflow.heuristics.curvature import adam_rate, adam_scale, curvature, sgd_rate
from tuneflow.heuristics.lanczos import Hessian, flat, lanczos


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def leaf(*shape, seed=0, dtype=torch.float64):
    return normal(*shape, seed=seed, dtype=dtype).requires_grad_()


def diagonal(bends):
    """A quadratic with Hessian diag(bends): its loss, its parameters."""
    w = torch.ones(len(bends), dtype=torch.float64, requires_grad=True)
    return lambda scale: 0.5 * scale * (torch.tensor(bends, dtype=torch.float64) * w * w).sum(), [w]


def symmetric(size, seed):
    matrix = normal(size, size, seed=seed)
    return matrix + matrix.T


class Cut(torch.autograd.Function):
    """tanh whose backward pass cannot be differentiated, and says so."""

    @staticmethod
    def forward(ctx, inputs):
        outputs = inputs.tanh()
        ctx.save_for_backward(outputs)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        (outputs,) = ctx.saved_tensors
        return slope * (1 - outputs * outputs)


class CutTanh(nn.Module):
    def forward(self, inputs):
        return Cut.apply(inputs)


class Attention(nn.Module):
    """Fused attention: no double backward on the CPU."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 12), nn.Linear(4, 3)

    def forward(self, inputs):
        query, key, value = self.inner(inputs.unflatten(1, (1, 2, 4))).chunk(3, -1)
        return self.outer(functional.scaled_dot_product_attention(query, key, value).mean((1, 2)))


def perceptron(act=nn.Tanh, dropout=0.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), act(), nn.Dropout(dropout), nn.Linear(16, 3))


def convolution():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Unflatten(1, (1, 2, 4)), nn.Conv2d(1, 6, 2), nn.BatchNorm2d(6), nn.SiLU(), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(18, 3))


def attention():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Attention()


SMOOTH = {"perceptron": perceptron, "convolution": convolution, "attention": attention}
every_smooth = pytest.mark.parametrize("make", SMOOTH.values(), ids=SMOOTH.keys())


def classified(module):
    return (
        lambda batch: functional.cross_entropy(module(batch[0].to(next(module.parameters()).dtype)), batch[1]),
        list(module.parameters()),
    )


def batches(count=2, rows=16, dtype=torch.float32):
    return [(normal(rows, 8, seed=n, dtype=dtype), torch.arange(rows) % 3) for n in range(count)]


def whole(loss_of, parameters, batch):
    """The Hessian, one row after the other: a reference that needs nothing but autograd."""
    slopes = torch.autograd.grad(loss_of(batch), parameters, create_graph=True)
    elements = torch.cat([slope.flatten() for slope in slopes])
    rows = [torch.autograd.grad(element, parameters, retain_graph=True) for element in elements]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


# Lanczos.


@laws
@given(st.integers(1, 12), st.integers(0, 1000))
def test_lanczos_over_all_dimensions_is_the_largest_eigenvalue(size, seed):
    matrix = symmetric(size, seed)
    value, vector = lanczos(lambda v: matrix @ v, normal(size, seed=seed + 1), size)
    assert value == pytest.approx(torch.linalg.eigvalsh(matrix)[-1].item(), rel=1e-9, abs=1e-9)
    torch.testing.assert_close(matrix @ vector, value * vector, rtol=0, atol=1e-5)


@laws
@given(st.integers(2, 12), st.integers(0, 1000))
def test_more_rounds_never_lower_the_eigenvalue_nor_pass_the_truth(size, seed):
    matrix, start = symmetric(size, seed), normal(size, seed=seed + 1)
    values = [lanczos(lambda v: matrix @ v, start, rounds)[0] for rounds in range(1, size + 1)]
    truth = torch.linalg.eigvalsh(matrix)[-1].item()
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(values))
    assert values[-1] <= truth + 1e-9


@pytest.mark.parametrize("eigenvalues", [[2.0] * 6, [0.0] * 6, [-1.0] * 6, [5.0, 1.0, 1.0, 1.0, 1.0, 1.0]], ids=str)
def test_lanczos_stops_when_its_space_is_closed(eigenvalues):
    asked = []

    def product(vector):
        asked.append(vector)
        return torch.tensor(eigenvalues, dtype=torch.float64) * vector

    assert lanczos(product, normal(6), 6)[0] == pytest.approx(max(eigenvalues), abs=1e-12)
    assert len(asked) == len(set(eigenvalues))


# Closed forms.


@pytest.mark.parametrize(("rows", "size"), [(50, 6), (20, 12), (4, 9)])
def test_linear_regression_has_the_eigenvalue_of_its_inputs(rows, size):
    weight, bias = leaf(size), leaf(1)
    data = [(normal(rows, size, seed=n) * 3 + 1, normal(rows, seed=9 + n)) for n in range(3)]
    found = curvature(lambda b: (b[0] @ weight + bias - b[1]).square().mean(), [weight, bias], data, rounds=size + 1)
    wide = [torch.cat([inputs, torch.ones(rows, 1)], 1) for inputs, _ in data]
    truth = [torch.linalg.eigvalsh(2 * x.T @ x / rows)[-1].item() for x in wide]
    assert found.per_batch == pytest.approx(truth, rel=1e-6)
    assert found.value == pytest.approx(sum(truth) / 3, rel=1e-6)
    assert found.exact
    assert found.reason == ""


@every_smooth
def test_networks_have_the_eigenvalue_of_their_hessian(make):
    module = make().double()
    loss_of, parameters = classified(module)
    data = batches(1, dtype=torch.float64)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        hessian = whole(loss_of, parameters, data[0])
    found = curvature(loss_of, parameters, data, rounds=60)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-6)
    scale = adam_scale(loss_of, parameters, data)
    root = flat(scale).rsqrt()
    found = curvature(loss_of, parameters, data, scale, rounds=150)
    truth = torch.linalg.eigvalsh(root[:, None] * hessian * root)[-1].item()
    assert found.value == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("bends", [[-5.0, 1.0, 3.0], [3.0, -2.9], [1e-6, -1.0, 0.0], [1e6, 1.0]], ids=str)
def test_negative_curvature_does_not_disturb_the_positive(bends):
    loss_of, parameters = diagonal(bends)
    assert curvature(loss_of, parameters, [1.0]).value == pytest.approx(max(bends), rel=1e-9)


def test_scale_that_equals_the_curvature_leaves_one():
    bends = [7.0, 0.01, 300.0, 1.0]
    loss_of, parameters = diagonal(bends)
    assert curvature(loss_of, parameters, [1.0], [torch.tensor(bends)]).value == pytest.approx(1, rel=1e-6)


def test_value_is_the_mean_over_the_batches():
    loss_of, parameters = diagonal([1.0, 2.0])
    found = curvature(loss_of, parameters, [1.0, 4.0, 0.5])
    assert found.per_batch == pytest.approx((2.0, 8.0, 1.0))
    assert found.value == pytest.approx(11 / 3)


def test_steep_direction_without_a_gradient_is_found():
    """At the bottom of the steep direction: the gradient alone would never look there."""
    w = torch.tensor([0.0, 1.0], requires_grad=True)
    assert curvature(lambda _: 50 * w[0] ** 2 + w[1] ** 2, [w], [None]).value == pytest.approx(100, rel=1e-5)
    w = torch.zeros(2, requires_grad=True)
    assert curvature(lambda _: 50 * w[0] ** 2 + w[1] ** 2, [w], [None]).value == pytest.approx(100, rel=1e-5)


def test_adam_scale_is_the_root_of_the_mean_square_plus_its_mean():
    w, unused = leaf(3, dtype=torch.float32), leaf(2, dtype=torch.float32)
    slopes = [torch.tensor([1.0, 0.0, 2.0]), torch.tensor([3.0, 0.0, 0.0])]
    scale, flat_one = adam_scale(lambda slope: (slope * w).sum(), [w, unused], slopes)
    assert scale.tolist() == pytest.approx([math.sqrt(v + 7 / 3) for v in (5.0, 0.0, 2.0)], rel=1e-6)
    assert flat_one.tolist() == pytest.approx([1e-8, 1e-8])


# What the rates do.


def after(loss_of, parameters, batch, optimizer, steps=400):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(batch).backward()
        optimizer.step()
    return loss_of(batch).item()


@pytest.mark.parametrize(("factor", "momentum"), [(1.9, 0.0), (2.1, 0.0), (1.96, 0.9), (2.04, 0.9), (1.96, 0.5)])
def test_descent_is_stable_up_to_twice_the_rate_and_diverges_above(factor, momentum):
    """Heavy ball's limit is 2 (1 + m) / value."""
    inputs, targets = normal(40, 5), normal(40, seed=1)
    w = leaf(5)
    loss_of = lambda b: (b[0] @ w - b[1]).square().mean()
    value = curvature(loss_of, [w], [(inputs, targets)]).value
    first = loss_of((inputs, targets)).item()
    rate = factor * (1 + momentum) / value
    last = after(loss_of, [w], (inputs, targets), torch.optim.SGD([w], lr=rate, momentum=momentum))
    assert last < first if factor < 2 else last > 100 * first


def test_rates_are_inverse_to_the_curvature():
    assert sgd_rate(4.0) == adam_rate(4.0) == 0.25
    assert sgd_rate(4.0, momentum=0.9) == pytest.approx(0.025)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_rates_refuse_what_is_no_curvature(value):
    for rate in (sgd_rate, adam_rate):
        with pytest.raises(ValueError, match="range test"):
            rate(value)
    with pytest.raises(ValueError, match="momentum"):
        sgd_rate(1.0, momentum=1.0)


# Without double backward.


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-3), (torch.float32, 1e-2)])
@every_smooth
def test_finite_differences_agree_with_double_backward(make, dtype, within):
    loss_of, parameters = classified(make().to(dtype))
    for batch in batches():
        slope, product = Hessian(loss_of, parameters, batch, 0, "curvature", 0).differences()
        exact = curvature(loss_of, parameters, [batch], rounds=40)
        assert exact.exact
        assert lanczos(product, slope, 40)[0] == pytest.approx(exact.value, rel=within)


def test_finite_differences_take_over_where_double_backward_raises():
    cut, plain = perceptron(CutTanh), perceptron()
    found = curvature(*classified(cut), batches(), rounds=20)
    exact = curvature(*classified(plain), batches(), rounds=20)
    assert (found.exact, exact.exact) == (False, True)
    assert found.value == pytest.approx(exact.value, rel=1e-3)
    scale = adam_scale(*classified(plain), batches())
    found = curvature(*classified(cut), batches(), scale, rounds=20)
    assert found.value == pytest.approx(curvature(*classified(plain), batches(), scale, rounds=20).value, rel=1e-3)


def test_fused_attention_is_exact_on_plain_kernels():
    loss_of, parameters = classified(attention())
    with pytest.raises(RuntimeError, match="not implemented"):
        Hessian(loss_of, parameters, batches()[0]).double_backward()[1](flat(parameters))
    assert curvature(loss_of, parameters, batches()).exact


def test_cost_is_counted_in_gradients():
    plain, cut, fused = (classified(module) for module in (perceptron(), perceptron(CutTanh), attention()))
    assert curvature(*plain, batches(3), rounds=5).gradients == 3 * (1 + 2 * 5)
    assert curvature(*fused, batches(3), rounds=5).gradients == 3 * (1 + 2 * 5) + 3  # one product tried
    assert curvature(*cut, batches(3), rounds=5).gradients == 3 * (1 + 2 * 5) + 2 * 6  # checked on both kernels


class Kept(torch.autograd.Function):
    """Cross entropy that computes its gradient on the way forward, as fused kernels do, and never says so."""

    @staticmethod
    def forward(ctx, outputs, targets):
        ctx.save_for_backward((outputs.softmax(1) - functional.one_hot(targets, 3)) / len(targets))
        return functional.cross_entropy(outputs, targets)

    @staticmethod
    def backward(ctx, slope):
        return ctx.saved_tensors[0] * slope, None


class Square(torch.autograd.Function):
    """A custom function that does have a double backward."""

    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs * inputs

    @staticmethod
    def backward(ctx, slope):
        return 2 * ctx.saved_tensors[0] * slope


def test_custom_function_that_hides_its_curvature_is_found_out():
    module = perceptron()
    kept = curvature(lambda b: Kept.apply(module(b[0]), b[1]), list(module.parameters()), batches(), rounds=20)
    exact = curvature(*classified(module), batches(), rounds=20)
    assert not kept.exact
    assert kept.value == pytest.approx(exact.value, rel=1e-3)


def test_custom_function_with_double_backward_stays_exact():
    w = leaf(4)
    found = curvature(lambda _: Square.apply(w.sin()).sum(), [w], [None])
    assert found.exact
    assert found.value == pytest.approx((2 * torch.cos(2 * w)).max().item(), rel=1e-9)


def test_error_of_the_loss_itself_is_raised():
    module = perceptron()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        curvature(*classified(module), [(torch.ones(2, 5), torch.tensor([0, 1]))])


# Where there is no rate.


@pytest.mark.parametrize("bends", [[-1.0, -2.0], [0.0, 0.0]], ids=str)
def test_loss_that_bends_nowhere_upwards_says_so(bends):
    found = curvature(*diagonal(bends), [1.0])
    assert found.value == pytest.approx(max(bends), abs=1e-9)
    assert "upwards" in found.reason


def test_linear_loss_says_so():
    w = leaf(3, dtype=torch.float32)
    found = curvature(lambda _: w.sum(), [w], [None])
    assert found.value == pytest.approx(0, abs=1e-4)
    assert not found.exact


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_loss_that_is_not_finite_says_on_which_batch(bad):
    found = curvature(*diagonal([1.0, 2.0]), [1.0, bad])
    assert math.isnan(found.value)
    assert "mini-batch 2" in found.reason


# Odd parameters.


def test_unused_parameters_count_as_flat():
    loss_of, parameters = diagonal([-5.0, 1.0, 3.0])
    found = curvature(loss_of, [leaf(4), *parameters, leaf(2, 2)], [1.0])
    assert found.value == pytest.approx(3, rel=1e-6)


@pytest.mark.parametrize("act", [torch.tanh, Cut.apply], ids=["exact", "differences"])
def test_parameters_of_several_dtypes_share_one_hessian(act):
    single, double = leaf(3, dtype=torch.float32), leaf(2)

    def loss_of(act):
        return (act(single).double() * 2).square().sum() + 5 * act(double).square().sum()

    found = curvature(lambda _: loss_of(act), [single, double], [None], rounds=5)
    truth = torch.linalg.eigvalsh(whole(loss_of, [single, double], torch.tanh))[-1].item()
    assert found.value == pytest.approx(truth, rel=1e-6 if found.exact else 1e-2)
    assert found.exact is (act is torch.tanh)


def test_sparse_gradients_are_taken():
    table = nn.Embedding(5, 3, sparse=True)
    found = curvature(lambda rows: table(rows).square().sum(), [table.weight], [torch.tensor([1, 1, 3])])
    assert found.value == pytest.approx(4, rel=1e-2)  # row 1 counts twice


# What is left as it was.


def bits(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("act", [nn.Tanh, CutTanh], ids=["exact", "differences"])
def test_everything_is_bit_identical_after(act):
    module = nn.Sequential(nn.BatchNorm1d(8), *perceptron(act, dropout=0.5)).eval()
    loss_of, parameters = classified(module)
    parameters[0].grad = torch.ones(8)
    before, versions = bits(module), [p.data_ptr() for p in parameters]
    with generators_untouched():
        scale = adam_scale(loss_of, parameters, batches())
        curvature(loss_of, parameters, batches(), scale)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert [p.data_ptr() for p in parameters] == versions
    assert torch.equal(parameters[0].grad, torch.ones(8))
    assert all(p.grad is None for p in parameters[1:])
    assert all(p.requires_grad and p.is_leaf for p in parameters)


def test_parameters_are_put_back_when_the_loss_raises_beside_them():
    module = perceptron(CutTanh)
    loss_of, parameters = classified(module)
    before = bits(module)

    def fragile(batch):
        if not torch.equal(parameters[0], before["0.weight"]):
            raise RuntimeError("moved")
        return loss_of(batch)

    with pytest.raises(RuntimeError, match="moved"):
        curvature(fragile, parameters, batches())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("act", [nn.Tanh, CutTanh], ids=["exact", "differences"])
def test_dropout_draws_the_same_mask_at_every_call_and_obeys_the_seed(act):
    loss_of, parameters = classified(perceptron(act, dropout=0.5))
    found = [curvature(loss_of, parameters, batches(), rounds=20, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    cut = curvature(*classified(perceptron(CutTanh, dropout=0.5)), batches(), rounds=20)
    assert cut.value == pytest.approx(found[0].value, rel=1e-3)


def test_gradients_may_be_switched_off_outside():
    with torch.no_grad():
        assert curvature(*diagonal([1.0, 2.0]), [1.0]).value == pytest.approx(2)


def test_result_is_json_able():
    found = curvature(*diagonal([1.0, 2.0]), [1.0])
    assert json.loads(json.dumps(asdict(found)))["value"] == found.value


# Refusals.


def test_arguments_that_fit_nothing_are_refused():
    loss_of, parameters = diagonal([1.0, 2.0])
    frozen = torch.ones(2)
    for wrong, message in (
        (lambda: curvature(loss_of, [], [1.0]), "got 0 and 1"),
        (lambda: curvature(loss_of, parameters, []), "got 1 and 0"),
        (lambda: adam_scale(loss_of, parameters, []), "got 1 and 0"),
        (lambda: curvature(loss_of, parameters, [1.0], rounds=0), "rounds"),
        (lambda: curvature(loss_of, [frozen], [1.0]), "parameter 0"),
        (lambda: curvature(loss_of, [parameters[0] * 2], [1.0]), "leaf"),
        (lambda: curvature(loss_of, parameters, [1.0], [torch.ones(3)]), "shapes"),
        (lambda: curvature(loss_of, parameters, [1.0], []), "shapes"),
        (lambda: curvature(loss_of, parameters, [1.0], [torch.tensor([1.0, 0.0])]), "above 0"),
        (lambda: curvature(loss_of, parameters, [1.0], [torch.tensor([1.0, math.nan])]), "above 0"),
        (lambda: curvature(lambda _: parameters[0], parameters, [1.0]), "one number"),
        (lambda: curvature(lambda _: torch.ones(()), parameters, [1.0]), "no graph"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
