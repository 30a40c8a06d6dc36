"""Lanes: K trials of one structure that take their optimizer steps together."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

from tuneflow.data.data import Batch
from tuneflow.fused.dropout import DropoutMasks, rates_of
from tuneflow.fused.evaluation import EvaluationProgram
from tuneflow.fused.gradient import FactoredGradient, Gradient, Snapshot, clip
from tuneflow.fused.inspection import Inspection, LossOf, inspect_step, skeleton_of
from tuneflow.fused.module_facts import check_alike, facts_of
from tuneflow.fused.optimizers import StackedOptimizers
from tuneflow.fused.program import KINDS, LaneStep, Program, StepGradients
from tuneflow.fused.program_cache import ProgramCache
from tuneflow.fused.refusal import CannotFuse
from tuneflow.fused.stacked_tensors import ProgramInputs, StackedTensors
from tuneflow.fused.tree_key import TreeKey
from tuneflow.fused.verify import verify


class Lanes:
    """Trials of one structure, stacked along a first axis of length K, each with weights and settings of its own.

    A step of all lanes is what a step of each alone is, but for rounding: every lane has its own rows, its own
    optimizer settings and counter, its own clipping, its own draws. A lane that is stopped, or whose loss is not
    finite, no longer moves and disturbs no other. The modules and optimizers are read when lanes are made and written
    by `unload`; what a method refuses changes nothing.

    Args:
        modules: one for each lane, alike in all but their tensors' values and the probability of their dropout layers;
            in the mode they are trained in. Frozen parameters that are equal in all are held once.
        loss_of: (module, batch) -> scalar.
        optimizers: each one of its module's parameters, as torch.optim.SGD(module.parameters(), lr=0.1); all of one
            class, with the same parameter groups. Their state is taken over.
        kind: "stacked", one trace for all lanes; "single", a trace that is replayed for each; "eager", plain autograd.
        clips: the largest norm of each lane's gradient; None for no limit.
        generators: each lane's, that dropout draws from as torch's CPU dropout does from the global one; seeded with 0
            where none are given. The lanes draw from these very objects.
        programs: what other Lanes of this structure and loss have traced, and where this one's traces are kept.

    Attributes:
        live: which lanes have not been stopped and have had finite losses.

    Raises:
        CannotFuse: modules or optimizers are not alike, or cannot be stacked; the message has the reason.

    Example:
        >>> nets = [nn.Linear(4, 1) for _ in range(3)]
        >>> sgd = [torch.optim.SGD(net.parameters(), lr=rate) for net, rate in zip(nets, (0.1, 0.01, 0.0))]
        >>> lanes = Lanes(nets, lambda net, batch: (net(batch[0]) - batch[1]).square().mean(), sgd)
        >>> losses = lanes.step((torch.randn(3, 8, 4), torch.randn(3, 8, 1)))  # the same lanes, 8 rows for each
        >>> len(losses)
        3
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        loss_of: LossOf,
        optimizers: Sequence[Optimizer],
        *,
        kind: str = "stacked",
        clips: Sequence[float | None] | None = None,
        generators: Sequence[torch.Generator] | None = None,
        programs: ProgramCache | None = None,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"Lanes: kind needs to be one of {', '.join(KINDS)}, got {kind!r}.")
        count = len(modules)
        self._modules, self._optimizers = list(modules), list(optimizers)
        self._loss_of, self._kind = loss_of, kind
        self._clips: list[float | None] = [None] * count if clips is None else list(clips)
        self._generators = [_generator(module) for module in modules] if generators is None else list(generators)
        lengths = {len(part) for part in (self._modules, self._optimizers, self._clips, self._generators)}
        if lengths != {count} or not count:
            raise ValueError(f"Lanes: every argument needs one entry for each lane, got {sorted(lengths)}.")
        self.live = [True] * count
        self._facts = facts_of(modules[0])
        check_alike([self._facts, *map(facts_of, modules[1:])])
        self._rates = [rates_of(module) for module in modules]
        self._active = {name for rates in self._rates for name, rate in rates.items() if rate > 0.0}
        self._stack = StackedTensors(modules)
        self._programs = ProgramCache() if programs is None else programs
        self._ready: dict[Hashable, _PreparedProgram] = {}
        self._seen: Inspection | None = None

    def step(self, batch: Batch, only: Sequence[bool] | None = None) -> list[float]:
        """Take one optimizer step with the live lanes; return the loss of each.

        Args:
            batch: as `loss_of` takes it, every tensor with the lanes as a first axis: (K, rows, ...); (K,) is a single
                number for each lane.
            only: which lanes move; None for all. Rows of the others need to be valid, but are of no account: their
                losses are NaN. They neither move nor draw.

        Raises:
            CannotFuse: this shape of batch cannot be traced.
        """
        asked = [lane for lane, live in enumerate(self.live) if live and (only is None or only[lane])]
        ready = self._prepared(batch)
        ready.masks.draw(asked, self._rates, self._generators)
        given = self._given(batch, ready.masks.stacks)
        with torch.inference_mode():
            return self._step(ready.program, given, asked)

    def check(self, batch: Batch) -> None:
        """Compare the program with plain autograd once more, on the rows of the first live lane; nothing is changed.

        What forward keeps in Python, as a counter, is frozen in a program, and this may notice.

        Raises:
            CannotFuse: they differ by more than rounding.
        """
        if self._kind != "eager" and any(self.live):
            ready = self._prepared(batch)
            given = self._given(batch, self._trial_masks(ready.seen))
            lane = self.live.index(True)
            verify(ready.program, {lane: self._step_of(lane, ready.seen, pytree.tree_structure(batch))}, given)

    def outputs(self, inputs: Any) -> Any:
        """Return the outputs in evaluation mode, as new tensors (K, rows, ...).

        Args:
            inputs: of all lanes, as the modules take them: tensors (rows, ...), nested.

        Raises:
            CannotFuse: this shape of inputs cannot be traced.
        """
        leaves, spec = pytree.tree_flatten(inputs)
        shared = self._stack.shared
        names = [*(name for name in self._stack.of if name not in shared), *shared]
        tensors = [self._stack.of[name] for name in names]
        split = len(names) - len(shared)
        given = ProgramInputs((), tensors[:split], [*tensors[split:], *(leaf.contiguous() for leaf in leaves)])

        def make() -> EvaluationProgram:
            return EvaluationProgram(self._kind, skeleton_of(self._modules[0], self._rates_here), names, given, spec)

        made = self._programs.of(self._key("outputs", TreeKey(spec), _shapes(leaves), *sorted(self._active)), make)
        return made(given)

    def stop(self, lane: int) -> None:
        """Take a lane out of all further steps."""
        self.live[lane] = False

    def settle(self) -> None:
        """Read the optimizers' settings again, as after a schedule has set a learning rate."""
        if self._seen is not None:
            self._movers.settle(self._optimizers)

    def unload(self, lane: int) -> None:
        """Write a lane's parameters, buffers and optimizer state into its own module and optimizer."""
        self._stack.unload(lane, self._modules[lane])
        if self._seen is not None:
            self._movers.unload(lane, self._modules[lane], self._optimizers[lane])

    def put(
        self,
        lane: int,
        module: nn.Module,
        optimizer: Optimizer,
        *,
        clip: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Replace a lane by another trial of the same structure, with its own state, settings, counter and draws.

        Raises:
            CannotFuse: it is not alike, or has other frozen parameters.
        """
        check_alike([self._facts, facts_of(module)])
        self._stack.check(module)
        if self._seen is not None:
            self._movers.check(module, optimizer)
        self._modules[lane], self._optimizers[lane] = module, optimizer
        self._clips[lane], self._rates[lane], self.live[lane] = clip, rates_of(module), True
        self._active |= {name for name, rate in self._rates[lane].items() if rate > 0.0}
        self._generators[lane] = _generator(module) if generator is None else generator
        self._stack.put(lane, module)
        if self._seen is not None:
            self._movers.load(lane, module, optimizer)
            self._limits = self._limits_now()
        self.settle()

    # A step.

    def _step(self, program: Program, given: ProgramInputs, asked: Sequence[int]) -> list[float]:
        losses = [math.nan] * len(self.live)
        before = Snapshot([given.others[index] for index in program.changed])
        for part in program(given, asked) if asked else ():
            if part.lane is None:
                values = part.losses.tolist()
                for lane in asked:
                    losses[lane] = values[lane]
                moving = [lane in asked and math.isfinite(value) for lane, value in enumerate(values)]
                self._movers.step(self._clipped(part), moving)
            else:
                losses[part.lane] = float(part.losses)
                if math.isfinite(losses[part.lane]):
                    self._movers.step_lane(part.lane, self._clipped(part))  # type: ignore[arg-type]
        before.restore([lane for lane, loss in enumerate(losses) if not math.isfinite(loss)])
        for lane in asked:
            self.live[lane] = math.isfinite(losses[lane])
        return losses

    def _clipped(self, part: StepGradients) -> Sequence[Gradient]:
        if self._limits is None or (part.lane is not None and self._clips[part.lane] is None):
            return part.gradients
        whole = [g.whole() if isinstance(g, FactoredGradient) else g for g in part.gradients]
        if part.lane is None:
            clip(whole, self._limits)
        else:
            clip([g.unsqueeze(0) for g in whole], self._limits[part.lane : part.lane + 1])
        return whole

    def _given(self, batch: Batch, masks: Sequence[Tensor]) -> ProgramInputs:
        leaves = [leaf.contiguous() for leaf in pytree.tree_leaves(batch)]
        return replace(self._inputs, leaves=leaves, masks=masks)

    # Programs.

    def _prepared(self, batch: Batch) -> "_PreparedProgram":
        """Return the program for this shape of batch, traced if there is none; no lane is moved."""
        leaves, spec = pytree.tree_flatten(batch)
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                raise CannotFuse(f"a batch holds a {type(leaf).__name__}; tensors can be stacked")
            if leaf.dim() == 0 or len(leaf) != len(self._modules):
                raise ValueError(
                    f"Lanes.step: {len(self._modules)} lanes need a first axis of as many, got {leaf.shape}."
                )
        here = (TreeKey(spec), _shapes(leaves), len(self._active))
        if here not in self._ready:
            key = self._key("step", TreeKey(spec), _shapes([leaf[0] for leaf in leaves]), *sorted(self._active))
            program, seen = self._programs.of(key, lambda: self._trace(batch))
            self._begin(seen)
            self._ready[here] = _PreparedProgram(program, seen, self._masks(seen))
        return self._ready[here]

    def _trace(self, batch: Batch) -> tuple[Program, Inspection]:
        """Return a program and the inspection of its step, as Lanes of one structure share them."""
        first, spec = pytree.tree_map(lambda leaf: leaf[0].clone(), batch), pytree.tree_structure(batch)
        seen = inspect_step(skeleton_of(self._modules[0], self._rates_here), self._loss_of, first)
        self._begin(seen)
        given = self._given(batch, self._trial_masks(seen))
        program = KINDS[self._kind](self._step_of(0, seen, spec), given)
        if self._kind != "eager":
            last = len(self._modules) - 1
            verify(program, {lane: self._step_of(lane, seen, spec) for lane in {0, last // 2, last}}, given)
        return program, seen

    @property
    def _rates_here(self) -> dict[str, float]:
        """Rates for the dropout layers of a skeleton: any above 0 will do, since masks come from outside."""
        return dict.fromkeys(self._active, 0.5)

    def _step_of(self, lane: int, seen: Inspection, spec: pytree.TreeSpec) -> LaneStep:
        """Return a lane's step, on a copy of its own module."""
        names = [*seen.trained, *self._names(seen), *self._stack.shared]
        skeleton = skeleton_of(self._modules[lane], self._rates_here)
        return LaneStep(skeleton, self._loss_of, names, len(seen.trained), spec)

    def _begin(self, seen: Inspection) -> None:
        """Set up parameters and optimizers by the first program, which fixes which parameters are trained."""
        if self._seen is not None:
            if self._seen.trained != seen.trained:
                raise CannotFuse("which parameters have a gradient depends on the size of the batch")
            return
        names = (seen.trained, self._names(seen), self._stack.shared)
        self._inputs = ProgramInputs(*([self._stack.of[name] for name in part] for part in names))
        self._movers = StackedOptimizers(self._modules, self._optimizers, seen.trained, self._inputs.trained)
        self._seen, self._limits = seen, self._limits_now()

    def _names(self, seen: Inspection) -> list[str]:
        """Return the names of the stacked tensors that are not trained."""
        return [name for name in self._stack.of if name not in seen.trained and name not in self._stack.shared]

    def _key(self, *what: Hashable) -> Hashable:
        lanes = len(self._modules) if self._kind == "stacked" else 0
        return (self._kind, lanes, tuple(self._facts.items()), tuple(self._stack.shared), *what)

    def _limits_now(self) -> Tensor | None:
        """The largest norm of each lane's gradient, (K,); None where no lane has a limit."""
        limits = [math.inf if limit is None else float(limit) for limit in self._clips]
        return None if all(map(math.isinf, limits)) else self._inputs.trained[0].new_tensor(limits)

    def _masks(self, seen: Inspection) -> DropoutMasks:
        return DropoutMasks(seen.dropouts, len(self._modules), next(iter(self._stack.of.values())).device)

    def _trial_masks(self, seen: Inspection) -> list[Tensor]:
        """Masks for a program to be tried on, from a generator of their own."""
        masks, lanes = self._masks(seen), len(self._modules)
        masks.draw(range(lanes), self._rates, [_generator(self._modules[0])] * lanes)
        return masks.stacks


class _PreparedProgram(NamedTuple):
    """A program with the masks of these lanes."""

    program: Program
    seen: Inspection
    masks: DropoutMasks


def _generator(module: nn.Module) -> torch.Generator:
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    return torch.Generator(device).manual_seed(0)


def _shapes(leaves: Sequence[Tensor]) -> tuple[Hashable, ...]:
    return tuple((leaf.shape, leaf.dtype) for leaf in leaves)
