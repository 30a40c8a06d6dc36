"""The margin of logits: by how much the class of a row leads."""

import torch
from torch import Tensor


def logit_margin(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the logit of each row's class minus the largest other, shape (rows,); -inf where one is not finite.

    Args:
        logits: shape (rows, classes), at least two classes.
        targets: class numbers, shape (rows,).

    Example:
        >>> logit_margin(torch.tensor([[1.0, 3.0, 0.5], [1.0, 3.0, 0.5]]), torch.tensor([1, 2]))
        tensor([ 2.0000, -2.5000])
    """
    own = logits.gather(1, targets[:, None]).squeeze(1)
    others = logits.scatter(1, targets[:, None], -torch.inf).amax(1)
    return torch.where(logits.isfinite().all(1), own - others, -torch.inf)
