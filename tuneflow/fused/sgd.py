"""torch.optim.SGD over stacked lanes, each with settings of its own; the arithmetic is torch's."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from tuneflow.fused.gradient import Gradient, Groups, Snapshot, along, is_large, of_lane

_NAMES = ("lr", "momentum", "weight_decay", "dampening", "nesterov", "maximize")


class StackedSGD:
    """Small parameters move in a pass over the stack, large ones lane by lane by torch's fused kernel."""

    def __init__(self, parameters: Sequence[Tensor], groups: Groups) -> None:
        self._parameters = list(parameters)
        self._velocities = [torch.zeros_like(p) for p in parameters]
        self._large = [n for n, p in enumerate(parameters) if is_large(p)]
        self._small = [n for n in range(len(parameters)) if n not in self._large]
        self._own = {n: torch.empty_like(parameters[n][0]) for n in self._large}
        self._views = [list(zip(p.unbind(), v.unbind())) for p, v in zip(self._parameters, self._velocities)]
        self._started = [False] * len(groups)  # torch takes a lane's first gradient whole
        self._lanes: list[dict[str, float]] = [{} for _ in groups]
        blank = {p.dtype: p.new_empty(len(groups)) for p in parameters}
        self._vectors = {name: {dtype: t.clone() for dtype, t in blank.items()} for name in _NAMES}
        self._columns = [{name: along(self._vectors[name][p.dtype], p) for name in _NAMES} for p in parameters]
        self.settle(groups)

    def settle(self, groups: Groups) -> None:
        before, self._lanes = self._lanes, [{name: float(group[name]) for name in _NAMES} for group in groups]
        for name in _NAMES:
            values = [lane[name] for lane in self._lanes]
            if values != [lane.get(name) for lane in before]:
                for vector in self._vectors[name].values():
                    vector.copy_(torch.tensor(values, dtype=torch.float64))
        self._uses = {name: any(lane[name] for lane in self._lanes) for name in _NAMES}
        self._steady = all(lane["momentum"] and not lane["dampening"] for lane in self._lanes)

    def step(self, gradients: Sequence[Gradient], moving: Sequence[bool]) -> None:
        idle = [lane for lane, moves in enumerate(moving) if not moves]
        if self._small:
            mine = [stack[n] for n in self._small for stack in (self._parameters, self._velocities)]
            before = Snapshot(mine if idle else ())
            self._step(gradients)
            before.restore(idle)
        for n in self._large:
            for lane in range(len(moving)):
                if moving[lane]:
                    self._kernel(lane, [n], [of_lane(gradients[n], lane, self._own[n])])
        self._start(lane for lane, moves in enumerate(moving) if moves)

    def step_lane(self, lane: int, gradients: Sequence[Tensor]) -> None:
        self._kernel(lane, range(len(gradients)), gradients)
        self._start([lane])

    def load(self, lane: int, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        found = [optimizer.state.get(p, {}).get("momentum_buffer") for p in parameters]
        self._started[lane] = any(velocity is not None for velocity in found)
        for stack, velocity in zip(self._velocities, found, strict=True):
            stack[lane] = 0.0 if velocity is None else velocity

    def unload(self, lane: int, optimizer: Optimizer, parameters: Sequence[Tensor]) -> None:
        for stack, p in zip(self._velocities, parameters, strict=True):
            optimizer.state[p] = {"momentum_buffer": stack[lane].clone() if self._started[lane] else None}

    def _start(self, lanes: Iterable[int]) -> None:
        for lane in lanes:
            self._started[lane] = self._started[lane] or self._lanes[lane]["momentum"] != 0.0

    def _kernel(self, lane: int, which: Sequence[int], gradients: Sequence[Tensor]) -> None:
        settings = self._lanes[lane]
        views = [self._views[n][lane] for n in which]
        torch._fused_sgd_(
            [p for p, _ in views],
            list(gradients),
            [velocity for _, velocity in views] if settings["momentum"] else [],
            lr=settings["lr"],
            momentum=settings["momentum"],
            weight_decay=settings["weight_decay"],
            dampening=settings["dampening"],
            nesterov=bool(settings["nesterov"]),
            maximize=bool(settings["maximize"]),
            is_first_step=not self._started[lane],
        )

    def _step(self, gradients: Sequence[Gradient]) -> None:
        """All lanes of the small parameters."""
        uses = self._uses
        for n in self._small:
            p, g, velocity, of = self._parameters[n], gradients[n], self._velocities[n], self._columns[n]
            assert isinstance(g, Tensor)
            if uses["maximize"]:
                g.mul_(1 - 2 * of["maximize"])
            if uses["weight_decay"]:
                g.addcmul_(p, of["weight_decay"])
            if self._steady:
                velocity.mul_(of["momentum"]).add_(g)
                p.addcmul_(self._ahead(g, velocity, of), of["lr"], value=-1)
            elif uses["momentum"]:
                p.addcmul_(self._mixed(g, velocity, of), of["lr"], value=-1)
            else:
                p.addcmul_(g, of["lr"], value=-1)

    def _ahead(self, g: Tensor, velocity: Tensor, of: dict[str, Tensor]) -> Tensor:
        """The direction: the velocity, or under Nesterov where it leads."""
        if not self._uses["nesterov"]:
            return velocity
        return torch.where(of["nesterov"] > 0, torch.addcmul(g, velocity, of["momentum"]), velocity)

    def _mixed(self, g: Tensor, velocity: Tensor, of: dict[str, Tensor]) -> Tensor:
        """The direction where some lanes have no momentum or damp it."""
        started = along(torch.tensor(self._started, device=g.device), g)
        moved = (velocity * of["momentum"]).addcmul_(g, torch.where(started, 1 - of["dampening"], 1.0))
        has = of["momentum"] != 0
        velocity.copy_(torch.where(has, moved, velocity))
        return torch.where(has, self._ahead(g, velocity, of), g)
