"""Attacks against torchattacks and foolbox: the same bits without random numbers, the same strength with them."""

import warnings

import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.harden import APGD, FGSM, PGD, Square

WHY = "an oracle, which .ci/test-oracles installs"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # their own, at import
    torchattacks = pytest.importorskip("torchattacks", reason=WHY)
    foolbox = pytest.importorskip("foolbox", reason=WHY)

BOX, EPS = (0.0, 1.0), {"linf": 0.1, "l2": 0.5}
STEPS, QUERIES = 50, 1000
STARTS = 3  # of APGD, whose mean is compared: single ones differ by up to 8 rows, of theirs and of ours
THEIRS = {"linf": "Linf", "l2": "L2"}
every_norm = pytest.mark.parametrize("norm", THEIRS)


def scaled(data):
    return tn.Data((data.inputs + 0.3) / 17, data.targets)  # the oracles know no box but (0, 1); no power of two


TRAIN, VALID, TEST = map(scaled, tn.data.digits())


def convnet():
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(512, 10)),
    )


@pytest.fixture(scope="module", params=[None, tn.harden.Fast(EPS["linf"])], ids=["plain", "hardened"])
def net(request):
    settings = {"epochs": 8, "batch_size": 32, "augment": request.param}
    trainer = tn.Trainer(TRAIN, VALID, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.Adam, **settings)
    job = tn.types.Job(tn.Model(convnet), {"optimizer": {"lr": 0.003}}, tn.Runtime("cpu", threads=1))
    *_, (state, _) = trainer.advance(job, trainer.init(job), 8)
    return trainer.module(job, state).eval()


def ours(attack, net, seed=0):
    torch.manual_seed(seed)
    return attack(net, TEST.inputs, TEST.targets)[0]


def theirs(attack):
    return attack(TEST.inputs, TEST.targets)


def by_foolbox(attack, net, eps):
    bounded = foolbox.PyTorchModel(net, bounds=BOX, device="cpu")
    criterion = foolbox.criteria.Misclassification(TEST.targets)
    return attack.run(bounded, TEST.inputs, criterion, epsilon=eps)


def rows_right(net, rows):
    with torch.no_grad():
        return int((net(rows).argmax(1) == TEST.targets).sum())


class WholeSquare(torchattacks.Square):
    """Theirs with windows that reach the last line and the last column, as in the paper: a quarter of 8 x 8 values."""

    def random_int(self, low=0, high=1, shape=(1,)):
        return super().random_int(low, high + 1, shape)


def test_there_are_360_rows():
    assert len(TEST) == 360


def test_fgsm_gives_their_bits(net):
    rows = ours(FGSM(EPS["linf"], box=BOX), net)
    assert torch.equal(rows, theirs(torchattacks.FGSM(net, eps=EPS["linf"])))
    assert torch.equal(rows, by_foolbox(foolbox.attacks.LinfFastGradientAttack(random_start=False), net, EPS["linf"]))


def test_pgd_without_random_start_gives_their_bits(net):
    eps = EPS["linf"]
    rows = ours(PGD(eps, box=BOX, step=0.25, random_start=False), net)
    settings = {"steps": 10, "random_start": False}
    assert torch.equal(rows, theirs(torchattacks.PGD(net, eps=eps, alpha=0.25 * eps, **settings)))
    assert torch.equal(rows, by_foolbox(foolbox.attacks.LinfPGD(rel_stepsize=0.25, **settings), net, eps))


def test_fgsm_under_l2_gives_their_rows(net):
    rows = ours(FGSM(EPS["l2"], "l2", BOX), net)
    other = by_foolbox(foolbox.attacks.L2FastGradientAttack(random_start=False), net, EPS["l2"])
    torch.testing.assert_close(rows, other, rtol=0, atol=1e-6)


def test_pgd_under_l2_is_as_strong_as_theirs(net):
    rows = ours(PGD(EPS["l2"], "l2", BOX, step=0.25, random_start=False), net)
    other = foolbox.attacks.L2PGD(rel_stepsize=0.25, steps=10, random_start=False)
    assert rows_right(net, rows) == pytest.approx(rows_right(net, by_foolbox(other, net, EPS["l2"])), abs=1)


def assert_as_strong(net, attack, other, points, starts=1):
    """Compare the rows that are right under our attack, and under theirs of a seed, on the mean over starts."""
    right = torch.tensor(
        [[rows_right(net, ours(attack, net, seed)), rows_right(net, theirs(other(seed)))] for seed in range(starts)]
    )
    own, their = right.double().mean(0).tolist()
    assert own == pytest.approx(their, abs=points / 100 * len(TEST))


@every_norm
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_is_as_strong_as_theirs_within_a_point(net, loss, norm):
    settings = {"norm": THEIRS[norm], "eps": EPS[norm], "steps": STEPS, "loss": loss}
    attack = APGD(EPS[norm], norm, BOX, loss=loss, steps=STEPS)
    assert_as_strong(net, attack, lambda seed: torchattacks.APGD(net, seed=seed, **settings), points=1, starts=STARTS)


@every_norm
def test_square_is_as_strong_as_theirs_within_three_points(net, norm):
    settings = {"norm": THEIRS[norm], "eps": EPS[norm], "n_queries": QUERIES}
    attack = Square(EPS[norm], norm, BOX, queries=QUERIES)
    assert_as_strong(net, attack, lambda seed: WholeSquare(net, seed=seed, **settings), points=3)
