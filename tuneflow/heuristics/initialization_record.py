"""The record of an initialization, layer by layer."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LayerRecord:
    """The initialization of one layer.

    Args:
        scheme: name of the scheme that drew its weight; "default" for its builder's.
        gain: standard deviation of the weights as drawn, before the data-driven pass, times the square root of the
            scheme's fan; of a branch's end with its share, of a tied embedding the standard deviation itself.
        follows: the activation that its output goes to, or "linear".
        before: standard deviation of its output over the batch, around each unit's mean, before.
        after: the same, after.
    """

    scheme: str
    gain: float | None
    follows: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Initialized:
    """The result of `initialize`: numbers and sentences only, so `dataclasses.asdict` of it is JSON.

    Args:
        scheme: the scheme.
        data_driven: True if the data-driven pass ran.
        layers: name of a layer -> its record.
        left_alone: name of a layer or parameter -> the reason why nothing was drawn there.
        notes: sentences for the reader.
        loss_before: of the batch, before.
        loss_after: of the batch, after.
        prior_entropy: the loss of the best constant outputs; for cross-entropy, the entropy of the class prior.
        failed: the reason why every weight is as it was before, or None.
    """

    scheme: str
    data_driven: bool
    layers: dict[str, LayerRecord] = field(default_factory=dict)
    left_alone: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    loss_before: float | None = None
    loss_after: float | None = None
    prior_entropy: float | None = None
    failed: str | None = None
