"""torch.optim.Adam and AdamW over stacked lanes: torch's fused kernel for each lane, on views of the stack.

One pass over memory instead of eight: 1.7 to 7 times faster on a CPU than the same in stacked elementwise ops.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tuneflow.fused.gradient import FactoredGradient, Gradient, Groups, of_lane


class StackedAdam:
    """Adam and AdamW; a lane counts its own steps.

    Args:
        parameters: each (K, *shape), contiguous.
        groups: settings, one for each lane.
        decoupled: the weight decay is AdamW's where a group does not say so; torch's own do from 2.7 on.
    """

    def __init__(self, parameters: Sequence[Tensor], groups: Groups, decoupled: bool = False) -> None:
        averages, squares = [[torch.zeros_like(p) for p in parameters] for _ in range(2)]
        self._steps = torch.zeros(len(groups), device=parameters[0].device)
        self._counts = self._steps.unbind()
        kinds = [[stack.unbind() for stack in kind] for kind in (parameters, averages, squares)]
        self._views = [[[views[lane] for views in kind] for kind in kinds] for lane in range(len(groups))]
        self._shapes = [p[0] for p in parameters]
        self._own: dict[int, Tensor] = {}
        self._decoupled = decoupled
        self.settle(groups)

    def settle(self, groups: Groups) -> None:
        self._settings = [_settings(group) for group in groups]
        decoupled = [group.get("decoupled_weight_decay", self._decoupled) for group in groups]
        self._kernels = [torch._fused_adamw_ if apart else torch._fused_adam_ for apart in decoupled]

    def step(self, gradients: Sequence[Gradient], moving: Sequence[bool]) -> None:
        self._steps.add_(torch.tensor(moving, device=self._steps.device))
        lanes = [lane for lane, moves in enumerate(moving) if moves]
        products = [n for n, gradient in enumerate(gradients) if isinstance(gradient, FactoredGradient)]
        others = [n for n in range(len(gradients)) if n not in products]
        parts = [gradients[n].unbind() for n in others]  # type: ignore[union-attr]
        for lane in lanes if others else ():
            self._kernel(lane, others, [part[lane] for part in parts])
        for n in products:
            if n not in self._own:
                self._own[n] = torch.empty_like(self._shapes[n])
            for lane in lanes:
                self._kernel(lane, [n], [of_lane(gradients[n], lane, self._own[n])])

    def step_lane(self, lane: int, gradients: Sequence[Tensor]) -> None:
        self._counts[lane].add_(1.0)
        self._kernel(lane, range(len(gradients)), gradients)

    def load(self, lane: int, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        states = [optimizer.state.get(p) for p in parameters]
        self._steps[lane] = float(states[0]["step"]) if states[0] else 0.0
        _, averages, squares = self._views[lane]
        for state, average, square in zip(states, averages, squares, strict=True):
            average.copy_(state["exp_avg"]) if state else average.zero_()
            square.copy_(state["exp_avg_sq"]) if state else square.zero_()

    def unload(self, lane: int, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        _, averages, squares = self._views[lane]
        for p, average, square in zip(parameters, averages, squares, strict=True):
            if self._steps[lane] > 0:
                count = torch.tensor(float(self._steps[lane]))
                optimizer.state[p] = {"step": count, "exp_avg": average.clone(), "exp_avg_sq": square.clone()}
            else:
                optimizer.state.pop(p, None)

    def _kernel(self, lane: int, which: Sequence[int], gradients: Sequence[Tensor]) -> None:
        views = self._views[lane]
        mine = views if len(which) == len(views[0]) else [[kind[n] for n in which] for kind in views]
        counts = [self._counts[lane]] * len(which)
        self._kernels[lane](mine[0], list(gradients), mine[1], mine[2], [], counts, **self._settings[lane])


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {
        "lr": float(group["lr"]),
        "beta1": float(group["betas"][0]),
        "beta2": float(group["betas"][1]),
        "weight_decay": float(group["weight_decay"]),
        "eps": float(group["eps"]),
        "amsgrad": False,
        "maximize": bool(group["maximize"]),
    }
