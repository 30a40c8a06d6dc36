"""Model: a builder of modules, with normalization and initialization."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from tuneflow.errors import did_you_mean, listed
from tuneflow.heuristics.by_part import ByPart
from tuneflow.heuristics.normalizers import checked, described
from tuneflow.heuristics.schemes import SCHEMES
from tuneflow.signature import name_of
from tuneflow.space.search_space import Config


class Model:
    """A module that can be built again and again, with other arguments each time.

    Args:
        builder: a function or class that returns a new `nn.Module`; its keyword arguments are what the
            space's section `model` may tune. Fix others with `functools.partial`.
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
        TypeError: `builder` is not callable, or is a module rather than something that makes one; or `normalize` is no
            kind.
        ValueError: no such init or normalization.
    """

    def __init__(
        self,
        builder: Callable[..., nn.Module],
        *,
        normalize: Any = True,
        init: str = "default",
        data_driven: bool | None = None,
    ) -> None:
        if isinstance(builder, nn.Module):
            raise TypeError(
                f"Model needs a function or class that makes a new module, got a ready {type(builder).__name__};"
                " every trial trains one of its own: pass lambda: copy.deepcopy(module)."
            )
        if not callable(builder):
            raise TypeError(f"Model needs a function or class that makes a module, got {builder!r}.")
        self.builder, self.normalize = builder, checked(normalize)
        self.init, self.data_driven = init, data_driven
        self.initialization({})

    def __repr__(self) -> str:
        words = [
            name_of(self.builder),
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
        if scheme not in SCHEMES:
            near = did_you_mean(str(scheme), SCHEMES)
            raise ValueError(f"Model: init needs to be one of {listed(map(repr, SCHEMES))}, got {scheme!r}.{near}")
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

    def build(self, config: Config) -> nn.Module:
        """Build a new module for a resolved configuration; draws from torch's global generator, as builders do.

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


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer by name, also the buffers that state_dict leaves out."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
