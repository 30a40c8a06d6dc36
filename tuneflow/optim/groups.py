"""Groups: parameters in groups by name, each with settings of its own, and no weight decay where it does no good."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from inspect import Parameter, Signature
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from tuneflow.errors import did_you_mean, listed
from tuneflow.optim.build import ForModule, Parameters, unwrapped
from tuneflow.signature import check_keywords, name_of, parameters_of

Patterns = str | Sequence[str]
COMPILED = "_orig_mod."
FIRST = Parameter("module", Parameter.POSITIONAL_ONLY)


class Groups:
    """An optimizer with settings of its own for each group of parameters, chosen by name.

    What a group does not set is the common setting. A schedule multiplies the rate of each group.

    Args:
        optimizer: a torch optimizer class, or a callable that takes a list of parameter groups first.
        no_decay: True for weight_decay=0 on all parameters with fewer than two dimensions, which are biases and the
            scales of normalization; embeddings decay. Patterns of names instead choose others.
        groups: the name of a group to a pattern of parameter names, or to a list of them. A pattern is a whole name or
            the name of a module, and `*` stands for anything. Where two groups match, the first has the parameter;
            what none matches has the common settings.

    Called with a module and settings, it returns the optimizer, for a training loop of your own.

    Raises:
        TypeError: the optimizer is not one, or has groups already; a setting is not one of its arguments.
        ValueError: a pattern matches no parameter of the module, or none that is left.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> optimizer = Groups(torch.optim.AdamW, no_decay=True, head="2")(net, lr=0.01, head={"lr": 0.1})
        >>> for group in optimizer.param_groups:
        ...     print(group["lr"], group["weight_decay"], [tuple(p.shape) for p in group["params"]])
        0.01 0.01 [(8, 4)]
        0.01 0.0 [(8,)]
        0.1 0.01 [(2, 8)]
        0.1 0.0 [(2,)]

    Source: no decay of biases and scales: He et al., Bag of Tricks for Image Classification, CVPR 2019, section 3.1; a
    rate for each group of layers: Howard, Ruder, ULMFiT, ACL 2018.
    """

    def __init__(
        self, optimizer: Callable[..., Optimizer], /, no_decay: bool | Patterns = False, **groups: Patterns
    ) -> None:
        inner, _ = unwrapped(optimizer)
        if not callable(optimizer):
            raise TypeError(f"optim.Groups: needs an optimizer class such as torch.optim.AdamW, got {optimizer!r}.")
        if isinstance(inner, ForModule):
            name = name_of(inner) if isinstance(inner, type) else type(inner).__name__
            way = f"{name} goes around Groups" if name == "Averaged" else f"{name} makes groups of its own"
            raise TypeError(f"optim.Groups: needs a plain optimizer class, got {name}; {way}.")
        self.optimizer, self.no_decay = optimizer, no_decay
        self.groups = {name: patterns_of(value, f'optim.Groups: group "{name}"') for name, value in groups.items()}
        self._not_decayed = [] if isinstance(no_decay, bool) else patterns_of(no_decay, "optim.Groups: no_decay")
        self.__signature__ = self._signature(parameters_of(optimizer))

    def __repr__(self) -> str:
        words = [f"no_decay={self.no_decay!r}"] if self.no_decay else []
        words += [f"{name}={patterns!r}" for name, patterns in self.groups.items()]
        return f"Groups({', '.join([name_of(self.optimizer), *words])})"

    def __call__(self, module: nn.Module, /, **settings: Any) -> Optimizer:
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        return self.for_module(module, trained, None, **settings)

    def for_module(
        self,
        module: nn.Module,
        parameters: Parameters,
        steps: int | None,  # noqa: ARG002 (of the seam)
        **settings: Any,
    ) -> Optimizer:
        """Return the optimizer of a module; see ForModule."""
        self.check_settings(settings, name_of(self.optimizer))
        common = {name: value for name, value in settings.items() if name not in self.groups}
        known = aliases(module, parameters)
        groups: list[dict[str, Any]] = []
        for group, names in self._members(parameters, known).items():
            own = settings.get(group) or {}
            spared = self._spared(parameters, names, known)
            groups.append({"params": [parameters[name] for name in names if name not in spared], **own})
            groups.append({"params": [parameters[name] for name in spared], **own, "weight_decay": 0.0})
        optimizer = self.optimizer([group for group in groups if group["params"]], **common)
        self._check_options(optimizer, settings)
        return optimizer

    def check_settings(self, settings: Mapping[str, Any], where: str) -> None:
        """Raise TypeError unless the settings of each group are arguments of the optimizer; see ForModule."""
        for name in self.groups.keys() & settings.keys():
            if not isinstance(settings[name], Mapping):
                raise TypeError(
                    f'{where}: the group "{name}" needs a dict of settings such as {{"lr": 0.1}},'
                    f" got {settings[name]!r}."
                )
            check_keywords(self.optimizer, settings[name], f'{where}: group "{name}"', 1)

    def _signature(self, known: list[Parameter] | None) -> Signature:
        """The optimizer's arguments but for the parameters, and a keyword for each group."""
        if known is None:
            return Signature([FIRST, Parameter("settings", Parameter.VAR_KEYWORD)])
        own = [p.replace(annotation=Parameter.empty) for p in known[1:]]
        doubled = [p.name for p in own if p.name in self.groups]
        if doubled:
            raise TypeError(
                f"optim.Groups: a group needs a name that is no argument of {name_of(self.optimizer)}, got"
                f' "{doubled[0]}".'
            )
        rest = [p for p in own if p.kind is p.VAR_KEYWORD]
        groups = [Parameter(name, Parameter.KEYWORD_ONLY, default=None) for name in self.groups]
        return Signature([FIRST, *(p for p in own if p not in rest and p.kind is not p.VAR_POSITIONAL), *groups, *rest])

    def _members(self, parameters: Parameters, names: Mapping[str, list[str]]) -> dict[str, list[str]]:
        """The names of the trained parameters of each group, the common one first, under an empty name."""
        for pattern in self._not_decayed:
            check_matched("optim.Groups: no_decay", pattern, names)
        left, members = dict(names), {}
        for group, patterns in self.groups.items():
            for pattern in patterns:
                check_matched(f'optim.Groups: group "{group}"', pattern, names)
            taken = {name for name, known in left.items() if any(matches(patterns, alias) for alias in known)}
            if not taken:
                raise ValueError(
                    f'optim.Groups: all parameters of the group "{group}" are in groups before it; name the narrower'
                    " group first."
                )
            members[group] = [name for name in parameters if name in taken]
            left = {name: known for name, known in left.items() if name not in taken}
        return {"": [name for name in parameters if name in left], **members}

    def _spared(self, parameters: Parameters, names: Iterable[str], known: Mapping[str, list[str]]) -> list[str]:
        """Those of `names` that have no weight decay."""
        if self.no_decay is True:
            return [name for name in names if parameters[name].ndim < 2]
        return [name for name in names if any(matches(self._not_decayed, alias) for alias in known[name])]

    def _check_options(self, optimizer: Optimizer, settings: Mapping[str, Any]) -> None:
        """Raise TypeError for a group's setting that the optimizer does not read from its groups."""
        known = getattr(optimizer, "defaults", {})
        wanted = [option for name in self.groups for option in settings.get(name) or {}]
        for option in [*wanted, "weight_decay"] if self.no_decay else wanted:
            if known and option not in known:
                raise TypeError(
                    f'optim.Groups: {type(optimizer).__name__} has no setting "{option}" for a group of parameters;'
                    f" it has {listed(known)}."
                )


def patterns_of(value: Any, what: str) -> list[str]:
    """Return a pattern, or a list of them, as a list.

    Raises:
        TypeError: it is anything else, or empty.
    """
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list | tuple) or not patterns or not all(isinstance(p, str) and p for p in patterns):
        raise TypeError(
            f'{what} needs a pattern of parameter names such as "head.*", or a list of them, got {value!r}.'
        )
    return list(patterns)


def matches(patterns: Iterable[str], name: str) -> bool:
    """True if a pattern matches a parameter's name, or the name of a module that it belongs to."""
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in patterns)


def aliases(module: nn.Module, parameters: Parameters) -> dict[str, list[str]]:
    """Return every parameter, frozen ones too, by its first name, with all its names.

    A tied one has several, and what a compiled module puts in front may be left out.
    """
    found: dict[int, list[str]] = {}
    every: list[tuple[str, Tensor]] = [*module.named_parameters(remove_duplicate=False), *parameters.items()]
    for name, parameter in [*((name.replace(COMPILED, ""), parameter) for name, parameter in every), *every]:
        known = found.setdefault(id(parameter), [])
        known += [name] if name not in known else []
    names = {id(parameter): name for name, parameter in parameters.items()}
    return {names.get(key, alike[0]): alike for key, alike in found.items()}


def check_matched(what: str, pattern: str, names: Mapping[str, list[str]]) -> None:
    """Raise ValueError unless a pattern matches a parameter; `what` opens the message."""
    every = [name for known in names.values() for name in known]
    if not any(matches([pattern], name) for name in every):
        near = did_you_mean(pattern, {*every, *(name.rpartition(".")[0] for name in every)} - {""})
        raise ValueError(f'{what}: the pattern "{pattern}" matches no parameter.{near} The module has {listed(every)}.')
