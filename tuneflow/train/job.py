"""Job and TrainState: the task of one training, and its state as a value."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tuneflow.data.orders import Order
from tuneflow.model import Model
from tuneflow.nested import leaves
from tuneflow.runtime.runtime import Runtime
from tuneflow.seeds import kept_globals, seeded_globals, torch_stream
from tuneflow.space.search_space import Config


@dataclass(frozen=True)
class Job:
    """The task of one training: a model, a configuration, a runtime and a seed.

    Attributes:
        model: makes the module; None for a loop or function of your own.
        config: the resolved configuration: labels already replaced by their objects.
        runtime: device, precision and threads.
        seed: any int; with `replica` and `fold` the only source of randomness. Jobs that have them in common share
            initialization seeds and data order, so that they differ by their configuration only.
        replica: the number of the replica, from 0.
        trial: added to the seed when a study is not paired, else None.
        fold: the number of the fold to train and to evaluate on, from 0; None for all rows of a trainer with folds, and
            where there are none.
    """

    model: Model | None
    config: Config
    runtime: Runtime
    seed: int = 0
    replica: int = 0
    trial: int | None = None
    fold: int | None = None

    def order(self, epoch: int, order: Order) -> Tensor:
        """Return the numbers of the training rows of an epoch, in their order: int64, shape (rows,)."""
        return order.draw(torch_stream(*self.key, "order", epoch))

    @contextmanager
    def at_work(self, purpose: str, epoch: int) -> Iterator[None]:
        """A block with this job's global generators, for a purpose and epoch, and its runtime's threads."""
        if purpose == "epoch":
            self.runtime.begin_epoch()
        with self.runtime.active(), seeded_globals(*self.key, purpose, epoch, device=self.runtime.device):
            yield

    def randomness(self, purpose: str, epoch: int) -> kept_globals:
        """Return a block with the generators of `at_work` that goes on where it was left when it is entered again."""
        return kept_globals(*self.key, purpose, epoch, device=self.runtime.device)

    @property
    def key(self) -> tuple[int | str, ...]:
        """First elements of the key of every random stream."""
        own = (self.seed, self.replica) if self.trial is None else (self.seed, self.replica, self.trial)
        return own if self.fold is None else (*own, "fold", self.fold)


@dataclass(frozen=True)
class TrainState:
    """Everything that a trial's next epoch depends on, beside its job.

    Attributes:
        epoch: number of epochs trained.
        values: nested dicts and lists of tensors, numbers, strings and None. Nothing else shares the tensors: further
            training leaves a state as it was.
    """

    epoch: int
    values: dict[str, Any]

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in leaves(self.values))
