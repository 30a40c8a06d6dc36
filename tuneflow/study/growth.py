"""The growth of a study: what its space has gained since it was made, and its trials read in the space of now."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tuneflow.errors import StudyError, listed, plural, warn
from tuneflow.history.history import History
from tuneflow.seeds import seeded_globals
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.store.store import Store
from tuneflow.study.brought_weights import weights_digest
from tuneflow.study.earlier_values import earlier_values
from tuneflow.study.fingerprint import WEIGHTS, compare, facts_of
from tuneflow.study.space_growth import Change, space_growth
from tuneflow.train.description import description_of
from tuneflow.train.loss_object import instance_of

OF_A_SPACE = ("space", "searcher", "grid", "trainer", WEIGHTS)  # the settings that may follow a space which grows
FACTS = "facts"  # the key of a study's settings
GROWTH = "growth"  # and in these, of what its space has gained


@dataclass(frozen=True)
class Growth:
    """The changes of a study's space since the study was made, each of which kept every earlier configuration.

    Attributes:
        trials: number of trials when it grew last; 0 where it never did.
        changes: each change, in words.
        values: dotted name to the value that trials had before the space had the name.
    """

    trials: int = 0
    changes: Sequence[str] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Growth":
        """Return the growth that is stored with the settings of a study."""
        return cls(**facts.get(GROWTH, {}))

    def by(self, changes: Sequence[Change]) -> "Growth":
        """Return this growth and these changes after it."""
        values = {change.name: change.value for change in changes if change.name}
        return Growth(self.trials, [*self.changes, *map(str, changes)], {**self.values, **values})

    def completed(self, space: SearchSpace, config: Config) -> Config:
        """Return a stored configuration with a value for every name in `space`, unchecked."""
        return space.filled(config, self.values) if self.values else config

    def read(self, space: SearchSpace, config: Config) -> Config:
        """Return a stored configuration as one of `space`.

        Raises:
            ValueError: it is none; the message names the parameter.
        """
        return space.cast(self.completed(space, config), where=False)


class Growing:
    """The comparison of a study that is made again with the one that is stored, whose space it may have outgrown.

    Args:
        study: the study, whose settings and space are those of now.
        store: the study's; it is written to by `record` only.

    Attributes:
        changes: how the space grew; empty where it did not.
        growth: all that it gained so far.

    Raises:
        FingerprintError: a setting differs that scores depend on, or the space did not only grow.
    """

    def __init__(self, study: Any, store: Store) -> None:
        self._store, self._where, self._space = store, str(study.folder), study.space
        self._facts = facts = facts_of(study)
        self._before = before = store.describe(facts)
        earlier = earlier_values(study.model, study.trainer and study.trainer.single)
        changes = space_growth(before["space"], study.space, earlier)
        grew = all(change.grew for change in changes)
        self.changes = changes if grew else []
        self.growth = Growth.of(before).by(self.changes)
        if grew:
            compare(before, self._as_before(study) if changes else facts, self._where, lengths=study.history.lengths)
        else:
            compare(before, facts, self._where, [change.text for change in changes], self._outside(changes))

    def examples(self) -> list[Config]:
        """Return a configuration of each branch of the earlier space, read in the one of now."""
        space, earlier = self._space, SearchSpace.from_json(self._before["space"])
        if space.where:
            earlier.where = (lambda config: space.allows(self.growth.read(space, config)),)
        return [self.growth.read(space, config) for config in earlier.examples()]

    def record(self, history: History, log: Callable[[str], None]) -> None:
        """Store the space if it grew, and show how.

        Args:
            history: the study's, whose trials were read in the new space.
            log: shows a line.

        Raises:
            StudyError: another process changed the study meanwhile.
        """
        history.grown = self.growth.trials
        if not self.changes:
            return
        history.grown = len(history)
        facts = self._before | {name: self._facts[name] for name in OF_A_SPACE}
        facts[GROWTH] = {**asdict(self.growth), "trials": history.grown}
        if not self._store.exchange(FACTS, self._before, facts):
            raise StudyError(f"{self._where}: another process changed the space of this study; make it again.")
        carried = plural(history.grown, "trial")
        log(f"{self._where}: {'; '.join(map(str, self.changes))}; {carried} carried over")
        stated = [f"{change.name}={change.value!r}" for change in self.changes if change.stated]
        if stated and history.grown:
            before = f"in {carried} from before, {listed(stated)} is assumed"
            warn(f"{self._where}: {before}; nothing but the new space says so.")

    def _as_before(self, study: Any) -> dict[str, Any]:
        """Return the settings now as they are in the earlier space."""
        trainer, before = self._facts["trainer"], self._before["trainer"]
        for name in {change.name for change in self.changes} & {"loss", "augment"}:
            if trainer.get(name) != before.get(name):  # a class with settings to tune may have been an object
                with seeded_globals(0, "description"):
                    trainer = trainer | {name: description_of(instance_of(getattr(study.trainer.single, name)))}
        brings = self._facts[WEIGHTS] is not None
        weights = weights_digest(study.model, self._space, self.examples()) if brings else None
        return self._facts | {"trainer": trainer, "grid": self._before["grid"], WEIGHTS: weights}

    def _outside(self, changes: Sequence[Change]) -> str:
        """Return which trials the space does not have, as a sentence; empty where there are no trials."""
        growth = Growth.of(self._before).by([change for change in changes if change.grew])
        trials = sorted((t for t in self._store.changes() if t.config), key=lambda trial: trial.number)
        outside = [str(trial.number) for trial in trials if not _fits(growth, self._space, trial.config)]
        if not trials:
            return ""
        if not outside:
            return " No trial lies outside of it, but a study's space may only grow."
        return f" Outside of it: {'trials' if len(outside) > 1 else 'trial'} {listed(outside)}, of {len(trials)}."


def _fits(growth: Growth, space: SearchSpace, config: Config) -> bool:
    try:
        return space.allows(growth.read(space, config))
    except ValueError:
        return False
