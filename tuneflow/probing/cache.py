"""Probes of a study: made on first use, kept in its store by structure."""

import json
from collections.abc import Callable

from tuneflow.model import Model
from tuneflow.probing.measuring import probe
from tuneflow.probing.probe import Probe
from tuneflow.runtime.runtime import Runtime
from tuneflow.seeds import digest
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.store.store import Store
from tuneflow.train.trainer import Trainer


class Probes:
    """What a history's `probe` asks. Configurations that differ in Floats only are of one structure."""

    def __init__(
        self,
        store: Store,
        space: SearchSpace,
        model: Model,
        trainer: Trainer,
        runtime: Runtime,
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        self._store, self._space, self._model = store, space, model
        self._trainer, self._runtime, self._seed, self._say = trainer, runtime, seed, say

    def __call__(self, config: Config) -> Probe:
        """The probe of this configuration's structure; of several processes that make it, the first one's stays."""
        key = self._key(config)
        known = self._store.recall(key)
        if known is None:
            resolved = self._space.resolve(config)
            made = probe(self._model, self._trainer, self._runtime, config=resolved, seed=self._seed)
            self._say(f"probe  {made.optimizer}  rate {made.rate:.3g}  {made.seconds:.1f} s  {made.screened}".rstrip())
            known = self._store.remember(key, made.to_json())
        return Probe.from_json(known)

    def screened(self, config: Config) -> str:
        """Why the structure cannot be trained, as a probe of it found; empty without one."""
        known = self._store.recall(self._key(config))
        return "" if known is None else str(known["screened"])

    def _key(self, config: Config) -> str:
        return f"probe:{digest(json.dumps(self._space.structure(config), sort_keys=True)):x}"
