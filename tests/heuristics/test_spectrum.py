"""The density of a Hessian's eigenvalues: exact on diagonals, and of one seed the same."""

import pytest
import torch
from torch import nn

from tests.helpers.global_generators import generators_untouched
from tuneflow.heuristics import curvature, spectrum


def diagonal(bends):
    """A quadratic loss whose Hessian has these eigenvalues, with its parameters and batch."""
    weights = torch.full((len(bends),), 0.5, requires_grad=True)
    return lambda bend: 0.5 * (bend * weights * weights).sum(), [weights], [torch.tensor(bends)]


def net():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    batch = torch.randn(16, 4), torch.randint(0, 3, (16,))
    return lambda batch: nn.functional.cross_entropy(module(batch[0]), batch[1]), list(module.parameters()), [batch]


def test_every_eigenvalue_of_a_diagonal_is_found_with_its_share():
    found = spectrum(*diagonal([2.0, -1.0, 2.0, 0.0]))
    assert found.values == pytest.approx([-1.0, 0.0, 2.0], abs=1e-5)
    assert found.weights == pytest.approx([0.25, 0.25, 0.5])
    assert (found.parameters, found.exact) == (4, True)


def test_few_rounds_keep_mean_and_mean_square_of_the_density():
    """A Gauss quadrature of k nodes is exact for polynomials below degree 2 k, and signs weigh a diagonal exactly."""
    bends = [0.1 * number for number in range(-5, 60)]
    found = spectrum(*diagonal(bends), rounds=4)
    assert len(found.values) == 4
    for power in (1, 2, 7):
        moment = sum(weight * value**power for value, weight in zip(found.values, found.weights, strict=True))
        assert moment == pytest.approx(sum(bend**power for bend in bends) / len(bends), rel=1e-4)


def test_the_largest_value_is_the_curvature():
    loss_of, parameters, batches = net()
    largest = curvature(loss_of, parameters, batches, rounds=40).value
    assert spectrum(loss_of, parameters, batches, rounds=40).values[-1] == pytest.approx(largest, rel=1e-3)


def test_mini_batches_and_starts_count_alike():
    loss_of, parameters, _ = diagonal([1.0, 1.0])
    found = spectrum(loss_of, parameters, [torch.ones(2), torch.full((2,), 3.0)], starts=2)
    assert found.values == pytest.approx([1.0, 1.0, 3.0, 3.0])
    assert found.weights == pytest.approx([0.25] * 4)


def test_the_seed_decides_and_global_generators_are_untouched():
    parts = net()
    with generators_untouched():
        first, again, other = (spectrum(*parts, rounds=5, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.values != other.values


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"rounds": 0}, "rounds and starts need to be at least 1, got 0 and 1"), ({"batches": []}, "needs parameters")],
    ids=["no rounds", "no batches"],
)
def test_what_gives_no_spectrum_is_refused(settings, message):
    loss_of, parameters, batches = diagonal([1.0])
    with pytest.raises(ValueError, match=message):
        spectrum(loss_of, parameters, **{"batches": batches, **settings})


def test_a_loss_that_is_not_finite_is_refused_with_its_mini_batch():
    loss_of, parameters, batches = diagonal([1.0])
    with pytest.raises(ValueError, match="mini-batch 2 has no finite gradient"):
        spectrum(loss_of, parameters, [*batches, torch.tensor([float("nan")])])
