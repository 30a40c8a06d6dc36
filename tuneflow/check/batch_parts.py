"""The dry run of micro-batches: their gradients add up, and layers that see only a part of a batch are named."""

from collections.abc import Sequence

from tuneflow.check.samples import SampledPart
from tuneflow.errors import listed, warn
from tuneflow.train.micro_batch import check_micro_batch, layers_across_rows, lowest
from tuneflow.train.session import Session


def check_batch_parts(run: Session, parts: Sequence[SampledPart]) -> None:
    """Raise unless micro-batches give the gradient of whole batches; warn of layers that see the parts.

    Args:
        run: a new session of few rows.
        parts: all rows; the first is the training part.

    Raises:
        ValueError: the gradients differ.
    """
    micro, size = run.settings.micro_batch, run.settings.batch_size
    if micro is None or micro >= size:
        return
    check_micro_batch(run, [lowest(leaf) for path, leaf in parts[0].leaves.items() if path.startswith("targets")])
    if layers := layers_across_rows(run.module):
        warn(
            f"micro_batch={micro}: {listed(layers)} computes with {micro} rows at a time and not with"
            f" batch_size={size}, so that training differs from that with whole batches; GroupNorm does not."
        )
