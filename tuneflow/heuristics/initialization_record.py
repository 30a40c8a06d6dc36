"""What an initialization did, layer by layer."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LayerRecord:
    """What became of one layer.

    Args:
        scheme: how its weight was drawn ("default": as its builder did).
        gain: standard deviation of the weights as drawn, before the data-driven pass, times the square root of the
            scheme's fan; of a branch's end with its share, of a tied embedding the standard deviation itself.
        follows: the activation that its output goes to, or "linear".
        before, after: standard deviation of its output over the batch, around each unit's mean.
    """

    scheme: str
    gain: float | None
    follows: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Initialized:
    """What `initialize` did: numbers and sentences only, so `dataclasses.asdict` of it is JSON.

    Args:
        left_alone: name of a layer or parameter -> why nothing was drawn there.
        prior_entropy: the loss of the best constant outputs; for cross-entropy, the entropy of the class prior.
        failed: why every weight is as it was before, or None.
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
