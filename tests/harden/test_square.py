"""Square: random search by logits alone, for rows of any shape and both norms."""

import pytest
import torch
from torch import nn

from tuneflow.harden import Square
from tuneflow.harden.attacked_module import AttackedModule
from tuneflow.harden.logit_margin import logit_margin
from tuneflow.harden.threat import Threat
from tuneflow.harden.windows import bumps, random_windows, tiles

BOX = (0.0, 16.0)


class Linear(nn.Module):
    """Two classes, of opposite logits that are a weighted sum of a row's values; not one operation has a gradient."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, inputs):
        score = (inputs.detach().reshape(len(inputs), -1) * self.weights).sum(1)
        return torch.stack([-score, score], 1)


def attacked_rows(weights, inputs, norm="linf", queries=200, seed=0, eps=0.1):
    attacked, targets = AttackedModule(Linear(weights)), torch.ones(len(inputs), dtype=torch.int64)
    threat, generator = Threat(eps, norm, BOX), torch.Generator().manual_seed(seed)
    rows = Square(eps, norm, queries=queries).perturb(attacked, "own", inputs, targets, threat, generator)
    threat.check(rows, inputs)
    return rows, logit_margin(attacked.logits(rows), targets)


def rows_of(shape, seed=0):
    return 8 + torch.rand((6, *shape), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("shape", [(), (7,), (3, 9), (1, 8, 8), (3, 7, 5), (2, 4, 3, 5)], ids=str)
def test_rows_of_any_shape_are_moved_within_box_and_ball(shape, norm):
    inputs = rows_of(shape)
    rows, margins = attacked_rows(torch.ones(max(1, inputs[0].numel())), inputs, norm, queries=30)
    assert rows.shape == inputs.shape
    assert (margins < 2 * inputs.reshape(6, -1).sum(1)).all()


def test_linear_margin_is_lowered_by_radius_times_the_sum_of_weights():
    weights, inputs = torch.tensor([1.0, -0.5, 2.0, 0.25, -1.0, 0.75]), rows_of((6,))
    _, margins = attacked_rows(weights, inputs)
    least = 2 * ((inputs * weights).sum(1) - 1.6 * weights.abs().sum())
    assert torch.allclose(margins, least, atol=1e-4)


def test_linear_margin_under_l2_is_lowered_by_more_than_half_of_what_is_possible():
    weights, inputs = torch.ones(16) + torch.rand(16, generator=torch.Generator().manual_seed(1)), rows_of((1, 4, 4))
    _, margins = attacked_rows(weights, inputs, "l2", queries=400)
    clean = 2 * (inputs.flatten(1) * weights).sum(1)
    most = 2 * 1.6 * weights.norm()
    assert (clean - margins > 0.5 * most).all()  # a random direction in 16 dimensions has about a fifth of it
    assert (clean - margins <= most * (1 + 1e-5)).all()


def test_draws_come_from_the_generator_alone():
    weights, inputs = torch.ones(64), rows_of((1, 8, 8))
    before = torch.get_rng_state()
    first, again, other = (attacked_rows(weights, inputs, queries=20, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_result_of_a_row_depends_on_no_other_row():
    inputs = rows_of((1, 8, 8))
    inputs[0] = 0.0  # its class is lost at once
    far = inputs.clone()
    far[0] = 16.0
    assert torch.equal(attacked_rows(torch.ones(64), inputs)[0][1:], attacked_rows(torch.ones(64), far)[0][1:])


def test_rows_whose_class_is_lost_stay_as_they_are():
    inputs = rows_of((1, 8, 8))
    assert torch.equal(attacked_rows(-torch.ones(64), inputs)[0], inputs)


class FirstOfEqual(Linear):
    """Logits that are equal, so that the first class counts, wherever the weighted sum is above 0."""

    def forward(self, inputs):
        score = super().forward(inputs - 8.5)[:, 1]
        return torch.stack([score.clamp(max=0), torch.zeros_like(score)], 1)


def test_search_goes_on_where_logits_are_equal_and_the_class_is_right():
    inputs, module = rows_of((6,)), FirstOfEqual(torch.tensor([1.0, -0.5, 2.0, 0.25, -1.0, 0.75]))
    right = inputs[module(inputs).argmax(1) == 0]
    moved, _ = Square(0.1, box=BOX, queries=100)(module, right, torch.zeros(len(right), dtype=torch.int64))
    assert (module(right).diff() == 0).all()
    assert len(right) > 0
    assert (module(moved).argmax(1) == 1).all()


def test_windows_reach_every_position_and_have_their_sides():
    index = random_windows(400, (5, 4), (2, 3), torch.Generator().manual_seed(0), torch.device("cpu"))
    assert index.shape == (400, 6)
    assert set(index.flatten().tolist()) == set(range(20))
    assert {tuple((row - row[0]).tolist()) for row in index} == {(0, 1, 2, 4, 5, 6)}


def test_bumps_of_opposite_sign_rise_to_their_centers():
    generator = torch.Generator().manual_seed(0)
    pattern = bumps((10,), 1, generator, torch.ones(1))[0]
    steps = torch.tensor([1 / 9, 1 / 9 + 1 / 4, 1 / 9 + 1 / 4 + 1, 1 / 9 + 1 / 4, 1 / 9])
    assert torch.allclose(pattern, torch.cat([steps, -steps]) / torch.cat([steps, steps]).norm())
    square = bumps((3, 3), 8, generator, torch.ones(1)).reshape(8, 3, 3)
    line, block = torch.tensor([1.0, 5, 1]), torch.tensor([[1.0, 1, 1], [1, 5, 1]])
    upright = torch.cat([line[None] / line.norm(), -block / block.norm()]) / 2**0.5
    assert all(torch.allclose(each, upright) or torch.allclose(each, upright.T) for each in square)
    assert len(square.unique(dim=0)) == 2


def test_tiles_have_norm_one():
    change = tiles(torch.zeros(3, 2, 11, 7), torch.Generator().manual_seed(0))
    assert change.shape == (3, 2, 11, 7)
    assert torch.allclose(change.flatten(1).norm(dim=1), torch.ones(3))


def test_margin_of_logits_that_are_not_finite_is_lost():
    assert logit_margin(torch.tensor([[1.0, torch.nan], [2.0, 1.0]]), torch.tensor([0, 0])).tolist() == [-torch.inf, 1]


def test_queries_are_a_whole_number():
    with pytest.raises(ValueError, match="Square: queries needs to be a whole number >= 1, got 0"):
        Square(0.1, queries=0)
