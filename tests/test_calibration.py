"""The expected calibration error equals its definition, in one piece and in chunks."""

import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.metrics import ece
from tuneflow.train.evaluate import Evaluator
from tuneflow.train.evaluation_plan import Measures


def by_definition(confidence, right):
    """The sum over bins (k/15, (k+1)/15] of their share of rows times the gap of their means."""
    total = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        if inside.any():
            total += inside.double().mean() * (confidence[inside].mean() - right[inside].mean()).abs()
    return float(total)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_several_classes_equal_the_definition():
    logits, classes = 3 * normal(500, 4), torch.arange(500) % 4
    confidence, decided = logits.double().softmax(1).max(1)
    expected = by_definition(confidence, (decided == classes).double())
    assert ece(logits, classes).item() == pytest.approx(expected, abs=1e-12)
    assert ece(logits, nn.functional.one_hot(classes).float()).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [(200,), (200, 1)])
def test_a_single_output_equals_two_logits(shape):
    logit, classes = 2 * normal(*shape), torch.arange(200) % 2
    both = torch.stack([torch.zeros(200), logit.flatten()], 1)
    assert ece(logit, classes.reshape(shape)).item() == pytest.approx(ece(both, classes).item(), abs=1e-12)


def test_positions_count_one_by_one_and_padding_not_at_all():
    logits, classes = normal(6, 3, 5), torch.arange(30).reshape(6, 5) % 3
    flat = logits.movedim(1, 2).reshape(30, 3)
    assert ece(logits, classes).item() == pytest.approx(ece(flat, classes.flatten()).item(), abs=1e-12)
    padded = classes.clone()
    padded[:, 3:] = -100
    kept = padded.flatten() >= 0
    assert ece(logits, padded).item() == pytest.approx(ece(flat[kept], classes.flatten()[kept]).item(), abs=1e-12)


def test_a_sure_and_right_output_has_none_and_a_sure_and_wrong_one_has_1():
    sure = torch.eye(3) * 100
    assert [ece(sure, torch.tensor(classes)).item() for classes in ([0, 1, 2], [1, 2, 0])] == [0.0, 1.0]


def test_nan_outputs_and_no_rows_give_nan():
    assert ece(torch.full((2, 3), torch.nan), torch.tensor([0, 1])).isnan()
    assert ece(torch.zeros(2, 3), torch.tensor([-1, -1])).isnan()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"ece: shapes \(4, 3\) and \(5,\) do not fit"):
        ece(torch.zeros(4, 3), torch.zeros(5))


@pytest.mark.parametrize("size", [1, 7, 300])
def test_chunks_give_the_error_of_all_rows(size):
    inputs, classes = normal(300, 4), torch.arange(300) % 3
    net = nn.Linear(4, 3)
    with torch.no_grad():
        net.weight.copy_(2 * normal(3, 4, seed=1))
        measured = Evaluator(Measures(nn.CrossEntropyLoss(), {"ece": ece}), {}).evaluate(
            net, tn.Data(inputs, classes), size
        )
        assert measured["ece"].value == pytest.approx(ece(net(inputs), classes).item(), abs=1e-6)
