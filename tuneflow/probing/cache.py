"""The probes of a study, measured on first use and stored by structure."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from tuneflow.model import Model
from tuneflow.probing.measuring import probe
from tuneflow.probing.probe import Probe
from tuneflow.runtime.runtime import Runtime
from tuneflow.seeds import digest
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.store.store import Store
from tuneflow.train.trainer import Trainer


@dataclass(frozen=True, eq=False)
class Probes:
    """Probes by configuration, for `history.probe`; configurations that differ in Floats only share one.

    Args:
        store: keeps the probes with the study.
        space: resolves configurations.
        model, trainer, runtime, seed: the study's, to measure with.
        log: prints a line for each new probe.
    """

    store: Store
    space: SearchSpace
    model: Model
    trainer: Trainer
    runtime: Runtime
    seed: int
    log: Callable[[str], None]

    def __call__(self, config: Config) -> Probe:
        """Return the probe of this configuration's structure; of several processes, the first stores it."""
        key = self._key(config)
        stored = self.store.recall(key)
        if stored is None:
            resolved = self.space.resolve(config)
            new = probe(self.model, self.trainer, self.runtime, config=resolved, seed=self.seed)
            self.log(f"probe  {new.optimizer}  rate {new.rate:.3g}  {new.seconds:.1f} s  {new.screened}".rstrip())
            stored = self.store.remember(key, new.to_json())
        return Probe.from_json(stored)

    def screened(self, config: Config) -> str:
        """Return the reason why the structure cannot be trained; empty if it can, or has no probe yet."""
        stored = self.store.recall(self._key(config))
        return "" if stored is None else str(stored["screened"])

    def _key(self, config: Config) -> str:
        return f"probe:{digest(json.dumps(self.space.structure(config), sort_keys=True)):x}"
