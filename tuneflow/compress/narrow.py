"""Narrow: a step that drops the channels of a trained module that matter least for what they cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from tuneflow.compress.channel_costs import ChannelCosts
from tuneflow.compress.channel_groups import groups_of, named_groups
from tuneflow.compress.channel_moments import Moments, channel_moments, unexplained
from tuneflow.compress.channel_times import rates_of
from tuneflow.compress.group import Group
from tuneflow.compress.layer_names import check_names
from tuneflow.compress.narrowing import Narrowing, kept_channels
from tuneflow.compress.operations import Operation
from tuneflow.compress.scores import PER_COST, SCORES
from tuneflow.compress.step import StepRows
from tuneflow.errors import listed
from tuneflow.validate import check_flag, check_whole, check_word, is_number

PER_ROUND = 1.3  # the most by which the multiplications shrink before the scores are taken anew


@dataclass(frozen=True)
class Narrow:
    """A step that drops whole channels until a module has `macs` times fewer multiplications.

    Channels that have to stay together are a group, see `groups_of`, and every group keeps at least one. Of all groups,
    the channel that goes next is the one with the smallest score for the multiply-accumulate operations that it saves;
    magnitudes, which are in no unit of the loss, are compared as they are. The result is as little below the wanted
    number as channels allow. In rounds: after a shrinking by at most 1.3, what is left is scored anew.

    With `refit`, the layers behind get new weights in each round, in which the channels that stay stand in for those
    that go, by linear regression without an intercept on the training rows. The score "obd" then counts only the share
    of a channel that the others of its group cannot stand in for. The outputs stay much closer to what they were,
    before any fine-tuning.

    With `per="ms"` the score is divided by the milliseconds that a channel saves: those of its layers' multiplications,
    and of the pooling, activation and norm behind, measured once in the module as it comes, on a CPU with one thread.
    `macs` is what is reached either way. A measured time is never twice the same, so two trials of equal settings may
    keep other channels. Each keeps its own decision in its state, and goes on exactly.

    Args:
        macs: times fewer multiply-accumulate operations, at least 1.
        by: "obd", half the curvature of the loss at a gate on the channel; "taylor", the gradient there; or
            "magnitude", the sum of the absolute weights that make it.
        only: the layers whose channels may go, such as `["conv1"]`; None for all that can.
        rows: training rows for the scores and the new weights.
        refit: False leaves the weights of the channels that stay.
        per: "macs", or "ms" for measured milliseconds; of no meaning for magnitudes.
        batch: rows of the forward passes that are timed with "ms".
    """

    macs: float = 4.0
    by: str = "obd"
    only: Sequence[str] | None = None
    rows: int = 512
    refit: bool = True
    per: str = "macs"
    batch: int = 64

    def __post_init__(self) -> None:
        if not is_number(self.macs) or self.macs < 1:
            raise ValueError(f"Narrow: macs needs to be a number >= 1, times fewer multiplications, got {self.macs!r}.")
        check_word("Narrow: by", self.by, SCORES)
        check_word("Narrow: per", self.per, ("macs", "ms"))
        check_flag("Narrow: refit", self.refit)
        check_whole("Narrow: rows", self.rows)
        check_whole("Narrow: batch", self.batch)
        check_names("Narrow", self.only)

    def operations(self, module: nn.Module, rows: StepRows) -> list[Operation]:
        """Return the selections that narrow `module`, and new weights; none for `macs` of 1.

        Args:
            module: in evaluation mode; it is narrowed on return.
            rows: of the training part.

        Raises:
            ValueError: no channels can go, or not so many, or `only` names a layer without such channels.
        """
        if self.macs == 1:
            return []
        module.requires_grad_(False)  # gradients by gates only
        groups = named_groups(groups_of(module, rows.inputs), self.only)
        costs = ChannelCosts(module, groups, rows.inputs)
        self._check_possible(costs, groups)
        timed = (module, costs.layers, costs.widths, rows.inputs, self.batch)
        rates = rates_of(*timed) if self.per == "ms" else None
        narrowing = Narrowing(module, groups)
        rounds = math.ceil(math.log(self.macs) / math.log(PER_ROUND))
        for number in range(1, rounds + 1):
            moments = channel_moments(module, narrowing.groups, rows, self.rows) if self.refit else None
            scores = self._scores(module, narrowing.groups, rows, moments)
            left = ChannelCosts(module, narrowing.groups, rows.inputs, rates)
            macs = costs.full / self.macs ** (number / rounds)
            narrowing.keep(kept_channels(scores, left, macs, per_cost=self.by in PER_COST), moments)
        return narrowing.operations()

    def _scores(
        self, module: nn.Module, groups: Sequence[Group], rows: StepRows, moments: Moments | None
    ) -> list[Tensor]:
        scores = SCORES[self.by](module, groups, rows, self.rows)
        if self.by != "obd" or moments is None:
            return scores
        return [score * share for score, share in zip(scores, unexplained(moments), strict=True)]

    def _check_possible(self, costs: ChannelCosts, groups: Sequence[Group]) -> None:
        most = costs.full / costs.macs([1] * len(groups))
        if self.macs > most:
            names = listed(f'"{group.name}"' for group in groups)
            raise ValueError(
                f"Narrow: macs={self.macs:g} is more than this module can give: with one channel left in each of"
                f" {names} it has {most:.4g} times fewer multiplications."
            )
