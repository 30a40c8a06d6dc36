"""Model: makes modules, by a builder or from a trained winner, with normalization, initialization and steps."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from tuneflow.compress.operations import Operation
from tuneflow.compress.step import Decided, ModelStep, is_ready, step_of
from tuneflow.compress.winner import Winner, winner_of
from tuneflow.errors import did_you_mean
from tuneflow.heuristics.by_part import ByPart
from tuneflow.heuristics.normalizers import checked, described
from tuneflow.heuristics.schemes import SCHEMES
from tuneflow.signature import name_of
from tuneflow.space.search_space import Config
from tuneflow.validate import check_flag, check_word

SECTIONS = ("model", "normalize", "init", "optimizer", "loss", "augment", "trainer")  # of the space, beside the steps'
LONGEST = 80  # characters of an object in a message
OF_BUILDERS = ("model", "normalize", "init")  # those that a winner has settled


class Model:
    """A module that can be made again and again: built with other arguments each time, or copied and changed by steps.

    Args:
        source: a function or class that returns a new `nn.Module`; its keyword arguments are what the
            space's section `model` may tune. Fix others with `functools.partial`. Or a trained winner, a Result such as
            `study.best` or a module such as `tn.load` returns: each trial starts from a copy of it, with its normalizer
            and its scale of the targets, which are not fitted again.
        steps: name to a step such as `tn.compress.Narrow`, a change of the module before it is trained; carried out in
            this order. The space's section of that name tunes its arguments, and None in its place, as an option of a
            tn.Choice, leaves the step out. What a step does is decided once for each trial, on training rows, and is
            part of the trial's state from then on. Sanitizers, such as `tn.harden.Rounding`, come before the normalizer
            and are decided first, so that all other steps see the rows that they have cleaned.
        normalize: True standardizes inputs with the training set's mean and standard deviation: on for
            floating-point inputs and bytes, never for integer tokens, and not where the data or the module's first
            layers do it already; columns that the module looks at by value, as `x[:, 0].long()` does, are left alone.
            Other kinds are "whiten" (columns without correlation), "minmax" (0 to 1), "robust" (median and
            interquartile range), a list of columns to standardize or of the keys of a dict, a dict with the kind of
            each such part, as `{"numbers": "minmax"}` or `{0: "robust", (1, 2): "whiten"}`, and any object with
            `fit(inputs)` that returns an `nn.Module`: it gets the training rows, all of a tn.Data or at most 16,384
            of a Dataset. False leaves inputs alone. But for False, with MSE, L1, smooth L1 and Huber loss the module
            learns standardized targets too, where it ends in a linear map; losses, metrics and the trained model stay
            in the targets' units.
        init: how weights are drawn: "default", as the builder does; "lecun", "kaiming", "xavier" or "orthogonal", for
            the activations that follow, see `tuneflow.heuristics.initialize`. Keep "default" for pretrained weights.
        data_driven: correct the weights on the first 256 training rows, so that every layer's output has mean 0 and
            standard deviation 1; on with every `init` but "default".

    The last two can be tuned in the space's section `init`, as `scheme` and `data_driven`; normalization in the section
    `normalize`, as `kind`, by the keys of such a dict, by the arguments of a class with `fit`, or as a choice of kinds.

    Raises:
        TypeError: `source` neither makes modules nor is a trained one, a step is none, or `normalize` is no kind.
        ValueError: no such init or normalization, a winner is to be normalized or initialized anew, or a step has the
            name of another section.
    """

    def __init__(
        self,
        source: Callable[..., nn.Module] | nn.Module | Any,
        *,
        steps: Mapping[str, Any] | None = None,
        normalize: Any = True,
        init: str = "default",
        data_driven: bool | None = None,
    ) -> None:
        self.winner = _winner(source)
        if self.winner is not None and (normalize is not True or init != "default" or data_driven):
            raise ValueError(
                "Model: a trained winner brings its weights and its normalizer, so normalize=, init= and data_driven="
                " are for builders; leave them out."
            )
        builder = source if self.winner is None else self.winner.copy
        if not callable(builder):
            raise TypeError(
                "Model needs a function or class that makes a module, or a trained module or Result to copy, such as"
                f" study.best, study.result(3) or study.front[0], got {_short(source)}."
            )
        self.builder, self.normalize = builder, checked(normalize)
        self.init = init
        self.data_driven = None if data_driven is None else check_flag("Model: data_driven", data_driven)
        self.steps = _checked_steps(steps)
        self.initialization({})

    def __repr__(self) -> str:
        words = [
            name_of(self.builder) if self.winner is None else repr(self.winner),
            *(f"{name}={name_of(step)}" for name, step in self.steps.items()),
            *([] if self.normalize is True else [f"normalize={described(self.normalize)}"]),
            *([] if self.init == "default" else [f"init={self.init!r}"]),
            *([] if self.data_driven is None else [f"data_driven={self.data_driven}"]),
        ]
        return f"Model({', '.join(words)})"

    def initialization(self, config: Config) -> tuple[str, bool]:
        """Return (scheme, data_driven) for a resolved configuration.

        Raises:
            TypeError, ValueError: the section `init` holds something else; the message says what.
        """
        section = config.get("init", {})
        for name in section.keys() - {"scheme", "data_driven"}:
            near = did_you_mean(name, ("scheme", "data_driven"))
            raise TypeError(f'space section "init": there is no "{name}".{near} It has scheme and data_driven.')
        scheme, driven = section.get("scheme", self.init), section.get("data_driven", self.data_driven)
        check_word("Model: init", scheme, SCHEMES)
        return scheme, scheme != "default" if driven is None else bool(driven)

    def normalization(self, config: Config) -> Any:
        """Return the kind of normalization for a resolved configuration: True, False, a word, columns or an object.

        Raises:
            TypeError, ValueError: the section `normalize` holds something else; the message says what.
        """
        section = config.get("normalize", {})
        if not isinstance(section, Mapping):
            return checked(section)
        if section and isinstance(self.normalize, type | partial):
            return partial(self.normalize, **section)
        if section and isinstance(self.normalize, ByPart) and "kind" not in section:
            return checked(dict(self.normalize.kinds) | dict(section))
        for name in section.keys() - {"kind"}:
            raise TypeError(
                f'space section "normalize": there is no "{name}".{did_you_mean(name, ("kind",))} It has "kind", the'
                " kind for all inputs; kinds by column or part, to be tuned by these names, are those of"
                f' tn.Model(builder, normalize={{"{name}": ...}}).'
            )
        return checked(section.get("kind", self.normalize))

    @property
    def sections(self) -> tuple[str, ...]:
        """Names of the sections that a space may have, in a study with a tn.Trainer."""
        others = SECTIONS if self.winner is None else [name for name in SECTIONS if name not in OF_BUILDERS]
        return (*others, *self.steps)

    def steps_for(self, config: Config) -> list[tuple[str, ModelStep]]:
        """Return the steps with the settings of a resolved configuration, by name, in their order.

        Those whose section is None, as an option of a choice may be, are left out.
        """
        sections = {name: config.get(name, {}) for name in self.steps}
        return [(name, step_of(self.steps[name], each)) for name, each in sections.items() if each is not None]

    @property
    def recipe(self) -> list[Operation]:
        """The operations of the steps that were decided on, see `decided`."""
        return [each for step in self.steps.values() if isinstance(step, Decided) for each in step.recipe]

    def decided(self, recipe: Sequence[Operation]) -> "Model":
        """Return this model with its steps decided on, so that they are not asked again for the same job."""
        model = copy.copy(self)
        cleaning, changing = ([each for each in recipe if each.sanitizes is first] for first in (True, False))
        steps = {"decided sanitizers": Decided(cleaning, sanitizes=True), "decided steps": Decided(changing)}
        model.steps = {name: step for name, step in steps.items() if step.recipe}
        return model

    def build(self, config: Config) -> nn.Module:
        """Make a new module for a resolved configuration, before the steps.

        A builder draws from torch's global generator.

        Args:
            config: its section `model` holds arguments for the builder, or is a builder itself.

        Raises:
            TypeError: the builder did not return a module.
        """
        section = config.get("model", {})
        builder = self.builder if isinstance(section, Mapping) else section
        module = builder(**section) if isinstance(section, Mapping) else builder()
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"model builder {name_of(builder)} needs to return a torch.nn.Module, got {type(module).__name__}."
            )
        return module


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"a {type(value).__name__}"


def _winner(source: Any) -> Winner | None:
    """Return what a trained source is made of; None for a builder."""
    if isinstance(source, nn.Module):
        return winner_of(source)
    parts = None if isinstance(source, type) else getattr(source, "winner", None)
    winner: Winner | None = parts() if callable(parts) else None
    return winner


def _checked_steps(steps: Any) -> dict[str, Any]:
    """Return the steps by name.

    Raises:
        TypeError: they are no mapping of name to step.
        ValueError: one has the name of another section.
    """
    if steps is not None and not isinstance(steps, Mapping):
        raise TypeError(f"Model: steps needs a dict of name to step, such as {{'narrow': Narrow}}, got {steps!r}.")
    for name, step in (steps or {}).items():
        if not isinstance(name, str) or not name.isidentifier():
            raise TypeError(f"Model: the name of a step needs to be an identifier, got {name!r}.")
        if name in SECTIONS:
            raise ValueError(f'Model: a step cannot have the name of the section "{name}"; give it another.')
        if not is_ready(step) and not callable(step):
            raise TypeError(
                f'Model: step "{name}" needs a class or an object with operations(module, rows), got {step!r}.'
            )
    return dict(steps or {})


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer by name, also the buffers that state_dict leaves out."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
