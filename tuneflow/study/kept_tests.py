"""The results of tests, kept with the study so that its record and its report have them."""

import logging
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Subset

from tuneflow.analysis.tested import Tested
from tuneflow.data.data import Data
from tuneflow.data.sources import Source, as_source
from tuneflow.errors import StoreError
from tuneflow.metrics.measured import Estimate
from tuneflow.nested import leaves
from tuneflow.store.store import Store
from tuneflow.study.ledger import Ledger

log = logging.getLogger("tuneflow")

TEST = "test:"  # begins the keys of results; the trial's number in six digits follows


@dataclass(frozen=True)
class KeptTests:
    """Keeps the last test of each trial; none that is mostly on rows that a study trains or validates on.

    Args:
        ledger: the study's.
        trainer: the study's; nothing is tested where it has none.
    """

    ledger: Ledger
    trainer: Any

    def __call__(self, number: int, data: Any, estimates: Mapping[str, Estimate]) -> None:
        """Keep the estimates of a trial's model on `data`."""
        if self._is_used(data):
            log.info("the result of the test is not kept: its rows are mostly those of training or validation")
            return
        tested = Tested(number, dict(estimates), self.ledger.history.ended)
        try:
            self.ledger.store.note(f"{TEST}{number:06d}", tested.to_json())
            self.ledger.commit()
        except StoreError as error:
            log.warning("the result of the test is not kept with the study: %s", error)

    def _is_used(self, data: Any) -> bool:
        """True if trials are trained or validated on most of these rows, as far as that is known."""
        single = self.trainer.single
        if not single.inspectable:
            return False
        rows = Counter(_rows(as_source(data, "test: data")))
        shared = {row for used in (single.train, single.valid) for row in _rows(used) if row in rows}
        return sum(rows[row] for row in shared) > rows.total() / 2  # a few may be equal by chance


def kept_tests(store: Store) -> list[Tested]:
    """Return the last test of each trial, by number."""
    return [Tested.from_json(value) for value in store.recall_all(TEST).values()]


def _rows(source: Source) -> Iterator[Hashable]:
    """Return what each row is known by: its values, or its number in a dataset."""
    if isinstance(source, Data):
        tensors = [tensor.detach().cpu().numpy() for tensor in leaves((source.inputs, source.targets))]
        return (tuple(tensor[row].tobytes() for tensor in tensors) for row in range(len(source)))
    dataset: Any = source.dataset
    numbers: Sequence[int] = range(len(source))
    while isinstance(dataset, Subset):
        dataset, numbers = dataset.dataset, [dataset.indices[number] for number in numbers]
    return ((id(dataset), number) for number in numbers)
