"""Rescaled logits: a form of a module whose logits are so large that the cross-entropy has no gradient left."""

import torch
from torch import Tensor, nn

from tuneflow.harden.attacked_module import AttackedModule

LARGE = 20.0  # median lead of the largest logit: in float32 the cross-entropy of a row is exactly 0 from some 17 on
USUAL = 5.0  # lead to which it is brought
RESCALED = "rescaled"


class RescaledLogits(nn.Module):
    """A module with its logits times a factor.

    Args:
        module: gives logits.
        factor: of the logits, above 0.
    """

    def __init__(self, module: nn.Module, factor: float) -> None:
        super().__init__()
        self.module, self.factor = module, factor

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.module(inputs)
        return outputs * self.factor


def add_rescaled(attacked: AttackedModule, rows: Tensor) -> None:
    """Add the form "rescaled" where logits are so large that they mask the gradient of the cross-entropy.

    A factor on the logits changes no class, so that attacks through this form are as strong as on the same module
    without it.

    Args:
        attacked: in evaluation mode; its last form is the one that is rescaled.
        rows: some rows, by whose logits it is decided.
    """
    lead = _median_lead(attacked.logits(rows))
    if LARGE < lead < torch.inf:
        attacked.forms[RESCALED] = RescaledLogits(list(attacked.forms.values())[-1], USUAL / lead)


def _median_lead(logits: Tensor) -> float:
    largest = logits.topk(2, dim=1).values
    return float((largest[:, 0] - largest[:, 1]).median())
