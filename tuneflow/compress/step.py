"""Steps: changes of a trained module, each with settings that can be tuned."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from tuneflow.compress.operations import Operation


def _no_box() -> tuple[float, float]:
    raise ValueError("the range of the training inputs is not known here; say box=.")


@dataclass(frozen=True)
class StepRows:
    """The training rows, as a step sees them.

    Attributes:
        inputs: the inputs of two rows, as the module takes them; raw for a step that sanitizes.
        batches: called with (size, count), yields at most so many batches of so many rows, inputs and targets as the
            module takes them, in the order of the first epoch.
        loss_of: training loss of (module, batch), a scalar tensor with a gradient.
        box: returns the lowest and the highest value in the raw inputs of all training rows.
    """

    inputs: Any
    batches: Callable[[int, int], Iterator[tuple[Any, Any]]]
    loss_of: Callable[[nn.Module, tuple[Any, Any]], Tensor]
    box: Callable[[], tuple[float, float]] = _no_box


@runtime_checkable
class ModelStep(Protocol):
    """A change of a module; its settings are the arguments of its class, a section of the space.

    One that changes what stands before the module's inputs has the attribute `sanitizes = True`.
    """

    def operations(self, module: nn.Module, rows: StepRows) -> list[Operation]:
        """Return the operations that carry the step out.

        Args:
            module: a copy in evaluation mode, changed by the steps before. What is done to it has no effect but by the
                operations that are returned.
            rows: of the training part.
        """
        ...


@dataclass(frozen=True)
class Decided:
    """A step that was decided before, and does the same again.

    Attributes:
        recipe: its operations.
        sanitizes: True if they change what stands before the module's inputs, False if they change the module.
    """

    recipe: Sequence[Operation]
    sanitizes: bool = False

    def operations(self, module: nn.Module, rows: StepRows) -> list[Operation]:  # noqa: ARG002
        """Return the operations, whatever the module and the rows are."""
        return list(self.recipe)


def step_of(step: Any, section: Any) -> ModelStep:
    """Return a step with the settings of its section of a resolved configuration.

    Args:
        step: a class, or something else that makes an instance; or an instance.
        section: keyword arguments, or what the space has chosen in the place of `step`.
    """
    chosen = step if isinstance(section, Mapping) else section
    arguments = section if isinstance(section, Mapping) else {}
    ready: ModelStep = chosen if is_ready(chosen) else chosen(**arguments)
    return ready


def operations_by(step: ModelStep, module: nn.Module, rows: StepRows) -> list[Operation]:
    """Return the operations of a step.

    Raises:
        TypeError: it has no method for them, or returns something else.
    """
    if not is_ready(step):
        raise TypeError(f"a step needs a method operations(module, rows), got {step!r}.")
    before = _structure(module)
    returned: Any = step.operations(module, rows)
    if not isinstance(returned, list | tuple) or not all(isinstance(each, Operation) for each in returned):
        raise TypeError(
            "a step needs to return a list of operations, such as those of tn.compress, and empty for none, got"
            f" {returned!r}."
        )
    if not returned and _structure(module) != before:
        raise TypeError(
            f"a step needs to return the operations that change the module, and {type(step).__name__} changed only the"
            " copy that it was given; tn.compress has Select, Factorize and Remove."
        )
    return list(returned)


def _structure(module: nn.Module) -> list[tuple[str, type, list[Any]]]:
    """Return the names and kinds of all submodules, with the shapes of their parameters."""
    return [
        (name, type(part), [parameter.shape for parameter in part.parameters(recurse=False)])
        for name, part in module.named_modules()
    ]


def is_ready(step: Any) -> bool:
    """True for an instance of a step, not for a class or anything that makes one."""
    return not isinstance(step, type) and callable(getattr(step, "operations", None))
