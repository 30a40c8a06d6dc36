"""Weights that a builder brings along are part of a study's fingerprint; those that it draws are not."""

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tests.helpers.small_studies import linear, trainer
from tuneflow.errors import FingerprintError
from tuneflow.study.brought_weights import weights_digest

SPACE = tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)})


def pretrained(value):
    """A builder of a net with the weights of a trained one, and a new last layer."""
    trained = nn.Linear(64, 16)
    nn.init.normal_(trained.weight, generator=torch.Generator().manual_seed(value))

    def build():
        first, last = nn.Linear(64, 16), nn.Linear(16, 10)
        first.load_state_dict(trained.state_dict())
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)

    return build


def study(builder, folder):
    return tn.Study(model=tn.Model(builder), trainer=trainer(), space=SPACE, folder=folder, progress=False)


def test_changed_weights_are_refused_in_a_resumed_study(tmp_path):
    build = pretrained(0)
    study(build, tmp_path).close()
    study(build, tmp_path).close()
    with pytest.raises(
        FingerprintError, match=r"weights that the builder brings was '[0-9a-f]{16}', now '[0-9a-f]{16}'"
    ):
        study(pretrained(1), tmp_path)


@pytest.mark.parametrize("builder", [linear, lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(10))])
def test_weights_that_are_drawn_have_no_digest(builder):
    with generators_untouched():
        assert weights_digest(tn.Model(builder), SPACE) is None


def test_every_branch_of_builders_counts():
    def space(value):
        return tn.SearchSpace(model=tn.Choice({"new": linear, "pretrained": pretrained(value)}))

    assert weights_digest(tn.Model(linear), space(0)) is not None
    assert weights_digest(tn.Model(linear), space(0)) != weights_digest(tn.Model(linear), space(1))
