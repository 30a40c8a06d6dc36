"""Optimizers that need the loss again within a step are refused by name before trial 0; those that do not, pass."""

import pytest
import torch

import tuneflow as tn
from tests.helpers.dry_run_cases import check

SGD = torch.optim.SGD


class Required(SGD):
    def step(self, closure):
        return super().step(closure)


class Demanding(SGD):
    """The closure is optional by its signature only."""

    def step(self, closure=None):
        assert closure is not None, "this optimizer requires a closure"
        return super().step(closure)


class Sharpness(SGD):
    """As SAM's original: two steps, or one with a closure."""

    def first_step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=0.05)

    def second_step(self):
        super().step()

    def step(self, closure=None):
        self.first_step()
        if closure is not None:
            closure()
        self.second_step()


class Climbs(SGD):
    """The same without the two names: without a closure it is plain gradient descent, and nobody would know."""

    @torch.no_grad()
    def step(self, closure=None):
        if closure is not None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(p.grad, alpha=0.05)
            closure()
        super().step()


class Searches(SGD):
    """A line search: several losses in a step."""

    def step(self, closure=None):
        if closure is not None:
            closure()
            closure()
        super().step()


class NeedsLoss(SGD):
    def step(self, loss):
        super().step()


class Usual(SGD):
    """As torch's own: the closure is called first, once."""

    def step(self, closure=None):
        loss = closure() if closure is not None else None
        super().step()
        return loss


class Ignores(SGD):
    def step(self, closure=None):
        super().step()


class Without(SGD):
    def step(self):
        super().step()


REFUSED = {
    torch.optim.LBFGS: "LBFGS needs a closure",
    Required: "Required needs a closure",
    Demanding: "Demanding needs a closure",
    Sharpness: "Sharpness computes the loss again within a step, at other weights",
    Climbs: "Climbs computes the loss again within a step",
    Searches: "Searches computes the loss again within a step",
    NeedsLoss: "NeedsLoss needs loss in each step",
    torch.optim.SparseAdam: "SparseAdam takes sparse gradients only",
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("around", [None, tn.optim.Averaged, tn.optim.Groups])
def test_an_optimizer_that_needs_more_than_gradients_is_refused_by_name(kind, around):
    with pytest.raises(TypeError, match=f"optimizer {REFUSED[kind]}.*torch.optim") as caught:
        check(optimizer=kind if around is None else around(kind))
    assert "configuration" in str(caught.value)


@pytest.mark.parametrize("kind", [Usual, Ignores, Without, tn.optim.Averaged(Without)])
def test_an_optimizer_that_needs_gradients_only_passes(kind):
    check(optimizer=kind, schedule=tn.rates.Torch(lambda o: torch.optim.lr_scheduler.StepLR(o, 1, 0.5)))
