"""Model: how a module is made, and what stands in front of it."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from tuneflow.signature import name_of
from tuneflow.space import Config


class Model:
    """A module that can be built again and again, with other arguments each time.

    Args:
        builder: a function or class that returns a new `nn.Module`; its keyword arguments are what the
            space's section `model` may tune. Fix others with `functools.partial`.
        normalise: standardise inputs with the training set's mean and standard deviation: on for
            floating-point inputs and bytes, never for integer tokens, and not where the data or the module's first
            layer do it already.

    Raises:
        TypeError: `builder` is not callable, or is a module rather than something that makes one.
    """

    def __init__(self, builder: Callable[..., nn.Module], *, normalise: bool = True) -> None:
        if isinstance(builder, nn.Module):
            raise TypeError(
                f"Model needs a function or class that makes a new module, got a ready {type(builder).__name__};"
                " every trial trains one of its own: pass lambda: copy.deepcopy(module)."
            )
        if not callable(builder):
            raise TypeError(f"Model needs a function or class that makes a module, got {builder!r}.")
        self.builder, self.normalise = builder, normalise

    def __repr__(self) -> str:
        return f"Model({name_of(self.builder)}{'' if self.normalise else ', normalise=False'})"

    def build(self, config: Config) -> nn.Module:
        """A new module for a resolved configuration; draws from torch's global generator, as builders do.

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
    """Every parameter and buffer by name, the buffers that state_dict leaves out among them."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
