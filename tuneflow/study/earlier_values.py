"""Earlier values: those that trials had for names which their space lacked, the defaults of what takes the names."""

from collections.abc import Collection
from functools import partial
from typing import Any

from tuneflow.heuristics.by_part import ByPart
from tuneflow.model import Model
from tuneflow.signature import name_of, parameters_of
from tuneflow.space.values import object_repr
from tuneflow.train.function_trainer import Function
from tuneflow.train.loop import Loop
from tuneflow.train.patience import Patience
from tuneflow.train.trainer import Trainer


class NotKnown(ValueError):
    """The value that trials had without a name is not known; the message gives the reason."""


class EarlierValues:
    """The values of names that a section of the space, or the whole space, lacked; by default they are not known.

    Args:
        reason: why they are not.
        stated: True if a new Constant states the value, which nothing else can.
    """

    stated: bool = False

    def __init__(self, reason: str, stated: bool = False) -> None:
        self.reason, self.stated = reason, stated

    def of(self, name: str) -> Any:
        """Return the value that trials had where `name` was not in the space: an object, not a label.

        Raises:
            NotKnown: nothing tells it.
        """
        way = f"; to state it, make the study once with the value in place of the range, as in {name}=0.5"
        raise NotKnown(f"{self.reason}{way if self.stated else ''}")

    def inside(self, name: str, names: Collection[str]) -> "EarlierValues":  # noqa: ARG002
        """Return the values of the names in a nested section, which had `names`."""
        return self

    def described(self, value: Any) -> str:
        """Return a value that it gave, in words."""
        return f"the earlier {object_repr(value)}"


IN_A_DICT = EarlierValues("settings in a dict have no defaults")


class Arguments(EarlierValues):
    """The defaults in the signature of a callable."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def of(self, name: str) -> Any:
        parameter = next((p for p in parameters_of(self.function) or () if p.name == name), None)
        if parameter is None or parameter.default is parameter.empty:
            raise NotKnown(f"{name_of(self.function)} has no default for it")
        return parameter.default

    def inside(self, name: str, names: Collection[str]) -> EarlierValues:  # noqa: ARG002
        return IN_A_DICT

    def described(self, value: Any) -> str:
        return f"the default {object_repr(value)} of {name_of(self.function)}"


class TrainerSettings(EarlierValues):
    """The settings that a tn.Trainer was made with."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def of(self, name: str) -> Any:
        value = getattr(self.trainer, name, None)
        if name == "rows" and value is None and self.trainer.fold_rows is None:
            return len(self.trainer.train)
        if isinstance(value, Patience) and value == Patience(value.epochs):
            return value.epochs
        return value

    def described(self, value: Any) -> str:
        return f"the Trainer's {object_repr(value)}"


class Initialization(EarlierValues):
    """The scheme and the correction that a tn.Model draws weights by.

    Args:
        model: the model.
        names: what the earlier section `init` had.
    """

    def __init__(self, model: Model, names: Collection[str]) -> None:
        self.model, self.names = model, names

    def of(self, name: str) -> Any:
        if name == "scheme":
            return self.model.init
        follows = "scheme" in self.names  # and differs from trial to trial
        return self.model.data_driven if follows else self.model.initialization({})[1]


class Normalization(EarlierValues):
    """The normalization of a tn.Model: its kind, the kind of each part, or the arguments of a class."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def of(self, name: str) -> Any:
        normalize = self.model.normalize
        if isinstance(normalize, type | partial):
            return Arguments(normalize).of(name)
        parts = dict(normalize.kinds) if isinstance(normalize, ByPart) else {}
        return parts.get(name, normalize)


class Sections(EarlierValues):
    """The sections of a study with a tn.Trainer: what takes them, as long as they are not in the space."""

    def __init__(self, model: Model, trainer: Trainer) -> None:
        self.model, self.trainer = model, trainer

    def of(self, name: str) -> Any:
        if name == "model":
            return self.model.builder
        if name in self.model.steps:
            return self.model.steps[name]
        return self.model.normalize if name == "normalize" else getattr(self.trainer, name, None)

    def inside(self, name: str, names: Collection[str]) -> EarlierValues:
        if name == "trainer":
            return TrainerSettings(self.trainer)
        if name == "init":
            return Initialization(self.model, names)
        return Normalization(self.model) if name == "normalize" else Arguments(self.of(name))


class ModelSection(EarlierValues):
    """The section `model` of a study whose trainer is one of the user's; the other sections are not known."""

    def __init__(self, model: Model, reason: str) -> None:
        super().__init__(reason, stated=True)
        self.model = model

    def of(self, name: str) -> Any:
        return self.model.builder if name == "model" else super().of(name)

    def inside(self, name: str, names: Collection[str]) -> EarlierValues:  # noqa: ARG002
        return Arguments(self.model.builder) if name == "model" else EarlierValues(self.reason, stated=True)


def earlier_values(model: Model | None, trainer: Any) -> EarlierValues:
    """Return what trials of a study had for names that their space lacked.

    Args:
        model: the study's, if it has one.
        trainer: the study's, of one seed; None where trials are asked for.
    """
    if trainer is None:
        return EarlierValues("trials from ask() do not tell what they had for it", stated=True)
    if isinstance(trainer, Function):
        return Arguments(trainer.f)
    if isinstance(trainer, Trainer) and model is not None:
        return Sections(model, trainer)
    reason = f"{trainer!r} gets its configuration as a dict, which has no defaults"
    if model is None or isinstance(trainer, Loop):
        return EarlierValues(reason, stated=True)
    return ModelSection(model, reason)
