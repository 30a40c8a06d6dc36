"""MuonAdamW: Muon for the hidden matrices of a module, and AdamW for all else."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from tuneflow.errors import listed
from tuneflow.optim.build import Parameters
from tuneflow.optim.groups import aliases, check_matched, matches, patterns_of
from tuneflow.signature import check_keywords
from tuneflow.validate import check_flag, check_whole, check_word, is_number, shown

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


class MuonAdamW(Optimizer):
    """Muon for the hidden matrices of a module; AdamW for embeddings, the output layer, biases, norms and convolutions.

    Both parts take `lr` and `weight_decay`, for Muon's steps are scaled to the size of AdamW's; the dict `adamw` has
    other settings for its part, so that both can be tuned:
    `optimizer={"lr": tn.Float(...), "adamw": {"lr": tn.Float(...)}}`. It needs torch 2.9 or later.

    Args:
        module: the module to train.
        lr: learning rate of both parts.
        weight_decay: decoupled weight decay of both parts.
        momentum, nesterov, ns_steps: as in torch.optim.Muon.
        adjust_lr_fn: "match_rms_adamw" scales Muon's steps to those of AdamW; "original" does as its authors did, and
            needs a rate of its own.
        adamw: other arguments for torch.optim.AdamW, lr and weight_decay among them.
        rest: a pattern of names, or a list of them, of the matrices that AdamW trains; by default embeddings, and the
            output layer, which is the last matrix that the module lists or one that is tied to an embedding.
        parameters: the trained ones by name; by default the module's.

    Raises:
        TypeError: `adamw` is not a dict, or holds what AdamW does not take.
        ValueError: no matrix is left for Muon, or a pattern matches nothing.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> for group in MuonAdamW(net, lr=0.01, adamw={"lr": 0.001}).param_groups:
        ...     print(group["lr"], [tuple(p.shape) for p in group["params"]])
        0.01 [(8, 4), (8, 8)]
        0.001 [(8,), (8,), (2, 8), (2,)]

    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; the common rate: Liu et al.,
    Muon is Scalable for LLM Training, 2025.
    """

    def __init__(
        self,
        module: nn.Module,
        /,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str = "match_rms_adamw",
        adamw: Mapping[str, Any] | None = None,
        rest: str | list[str] | None = None,
        *,
        parameters: Parameters | None = None,
    ) -> None:
        self._check_numbers({"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        check_flag("optim.MuonAdamW: nesterov", nesterov)
        check_whole("optim.MuonAdamW: ns_steps", ns_steps)
        if adjust_lr_fn is not None:
            check_word("optim.MuonAdamW: adjust_lr_fn", adjust_lr_fn, ("original", "match_rms_adamw"))
        if parameters is None:
            parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not hasattr(torch.optim, "Muon"):
            raise TypeError(f"optim.MuonAdamW needs torch 2.9 or later, got {torch.__version__}.")
        adamw = {} if adamw is None else adamw
        self.check_settings({"adamw": adamw}, "optim.MuonAdamW")
        hidden = hidden_matrices(module, parameters, rest)
        others = [p for name, p in parameters.items() if name not in hidden]
        muon = torch.optim.Muon(
            list(hidden.values()),
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
        )
        self._parts: list[Optimizer] = [muon]
        if others:
            self._parts.append(AdamW(others, **{"lr": lr, "weight_decay": weight_decay} | dict(adamw)))
        super().__init__([part.param_groups[0] for part in self._parts], {})
        self.defaults = dict(muon.defaults)
        self._share()

    @classmethod
    def for_module(
        cls,
        module: nn.Module,
        parameters: Parameters,
        steps: int | None,  # noqa: ARG003 (of the seam)
        **settings: Any,
    ) -> "MuonAdamW":
        """Return the optimizer of a module; see ForModule."""
        return cls(module, parameters=parameters, **settings)

    @staticmethod
    def check_settings(settings: Mapping[str, Any], where: str) -> None:
        """Raise TypeError unless the settings of AdamW are arguments of it; see ForModule."""
        adamw = settings.get("adamw", {})
        if not isinstance(adamw, Mapping):
            raise TypeError(f'{where}: "adamw" needs a dict of settings such as {{"lr": 0.001}}, got {adamw!r}.')
        check_keywords(AdamW, adamw, f'{where}: "adamw"', 1)

    @staticmethod
    def _check_numbers(settings: Mapping[str, Any]) -> None:
        for name, value in settings.items():
            if not is_number(value) or value < 0:
                raise ValueError(f"optim.MuonAdamW: {name} needs to be a number >= 0, got {shown(value)}.")

    def _share(self) -> None:
        """Let both parts work on the groups and the state of the whole."""
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def step(self, closure: Any = None) -> Any:
        """Take a step with both parts."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss


def hidden_matrices(module: nn.Module, parameters: Parameters, rest: Any = None) -> dict[str, Tensor]:
    """Return the matrices that Muon trains, by name.

    Args:
        module: its embeddings are left out.
        parameters: the trained ones by name.
        rest: patterns of those that are left out; None for embeddings and the output layer.

    Raises:
        ValueError: none is left, or a pattern matches nothing.
    """
    matrices = {name: p for name, p in parameters.items() if p.ndim == 2 and not name.startswith("loss.")}
    names = aliases(module, parameters)
    left_out = _embeddings_and_output(module, matrices) if rest is None else _matched(names, rest)
    hidden = {name: p for name, p in matrices.items() if name not in left_out}
    if not hidden:
        raise ValueError(
            f"optim.MuonAdamW: Muon trains hidden matrices, and of {listed(parameters)} none is one that is neither an"
            " embedding nor the output layer; take torch.optim.AdamW, or name in rest= what AdamW trains."
        )
    return hidden


def _matched(names: Mapping[str, list[str]], rest: Any) -> set[str]:
    patterns = patterns_of(rest, "optim.MuonAdamW: rest")
    for pattern in patterns:
        check_matched("optim.MuonAdamW: rest", pattern, names)
    return {name for name, known in names.items() if any(matches(patterns, alias) for alias in known)}


def _embeddings_and_output(module: nn.Module, matrices: Parameters) -> set[str]:
    """Names of the embeddings' weights, and of the last matrix of another layer unless one of these is tied to it."""
    embeddings = {id(m.weight) for m in module.modules() if isinstance(m, EMBEDDINGS)}
    tied = any(
        id(p) in embeddings
        for m in module.modules()
        if not isinstance(m, EMBEDDINGS)
        for p in m.parameters(recurse=False)
    )
    found = [name for name, p in matrices.items() if id(p) in embeddings]
    others = [name for name in matrices if name not in found]
    return {*found, *(others[-1:] if not tied else [])}
