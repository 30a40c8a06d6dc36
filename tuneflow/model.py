"""Model: a builder of modules, with normalization and initialization."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from tuneflow.errors import did_you_mean, listed
from tuneflow.heuristics.schemes import SCHEMES
from tuneflow.signature import name_of
from tuneflow.space.search_space import Config


class Model:
    """A module that can be built again and again, with other arguments each time.

    Args:
        builder: a function or class that returns a new `nn.Module`; its keyword arguments are what the
            space's section `model` may tune. Fix others with `functools.partial`.
        normalize: standardize inputs with the training set's mean and standard deviation: on for
            floating-point inputs and bytes, never for integer tokens, and not where the data or the module's first
            layer do it already. With MSE, L1, smooth L1 and Huber loss the module learns standardized targets too,
            where it ends in a linear map; losses, metrics and the trained model stay in the targets' units.
        init: how weights are drawn: "default", as the builder does; "lecun", "kaiming", "xavier" or "orthogonal", for
            the activations that follow, see `tuneflow.heuristics.initialize`. Keep "default" for pretrained weights.
        data_driven: correct the weights on the first 256 training rows, so that every layer's output has mean 0 and
            standard deviation 1; on with every `init` but "default".

    Both can be tuned in the space's section `init`, as `scheme` and `data_driven`.

    Raises:
        TypeError: `builder` is not callable, or is a module rather than something that makes one.
        ValueError: no such init.
    """

    def __init__(
        self,
        builder: Callable[..., nn.Module],
        *,
        normalize: bool = True,
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
        self.builder, self.normalize = builder, normalize
        self.init, self.data_driven = init, data_driven
        self.initialization({})

    def __repr__(self) -> str:
        words = [
            name_of(self.builder),
            *([] if self.normalize else ["normalize=False"]),
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
