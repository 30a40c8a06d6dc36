"""Optimizers with train() and eval(), as schedule-free ones have them; each keeps its mode in another place."""

import torch


class MeanInGroup(torch.optim.SGD):
    """SGD; eval() shows the mean of the iterates. Its mode is in the parameter groups, as schedulefree's."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.param_groups[0]["training"], self.param_groups[0]["taken"] = False, 0

    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        group = self.param_groups[0]
        if not group["training"]:
            raise RuntimeError("step in evaluation mode")
        group["taken"] += 1
        for p in group["params"]:
            self.state[p].setdefault("mean", torch.zeros_like(p)).lerp_(p, 1 / group["taken"])

    @torch.no_grad()
    def _swap(self):
        for p in self.param_groups[0]["params"]:
            if "mean" in self.state[p]:
                trained = p.clone()
                p.copy_(self.state[p]["mean"])
                self.state[p]["mean"].copy_(trained)

    def train(self):
        if not self.param_groups[0]["training"]:
            self._swap()
        self.param_groups[0]["training"] = True

    def eval(self):
        if self.param_groups[0]["training"]:
            self._swap()
        self.param_groups[0]["training"] = False


class MeanUnguarded(MeanInGroup):
    """Swaps at each call: one too many would show the wrong weights."""

    def train(self, mode=True):
        if self.param_groups[0]["taken"]:
            self._swap()
        self.param_groups[0]["training"] = mode

    def eval(self):
        self.train(False)


class Extrapolated:
    """Around another optimizer and no Optimizer itself; its mode is an attribute, outside of state_dict().

    The weights of eval() are p + 0.5 (z - p), computed there and back, which rounds.
    """

    def __init__(self, params, lr):
        self.base, self.training = torch.optim.SGD(params, lr=lr), False

    param_groups = property(lambda self: self.base.param_groups)
    state = property(lambda self: self.base.state)

    def zero_grad(self):
        self.base.zero_grad()

    def state_dict(self):
        return self.base.state_dict()

    def load_state_dict(self, state):
        self.base.load_state_dict(state)

    @torch.no_grad()
    def step(self):
        if not self.training:
            raise RuntimeError("step in evaluation mode")
        for p in self.param_groups[0]["params"]:
            self.state[p].setdefault("z", p.clone()).lerp_(p, 0.1)
        self.base.step()

    @torch.no_grad()
    def _move(self, weight):
        for p in self.param_groups[0]["params"]:
            if "z" in self.state[p]:
                p.lerp_(self.state[p]["z"], weight)

    def train(self):
        if not self.training:
            self._move(-1.0)
        self.training = True

    def eval(self):
        if self.training:
            self._move(0.5)
        self.training = False
