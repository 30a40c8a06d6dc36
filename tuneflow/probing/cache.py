"""The probes of a study, measured on first use and stored by structure."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tuneflow.execute.guard import Guarded
from tuneflow.model import Model
from tuneflow.probing.measuring import in_words, probe
from tuneflow.probing.probe import Probe
from tuneflow.runtime.runtime import Runtime
from tuneflow.seeds import digest
from tuneflow.space.parameters import Choice, Float
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.store.store import Store
from tuneflow.train.trainer import Trainer

PROBE = "probe:"  # begins the keys of probes
CELLS = 8  # parts of the range of a step's setting, in each of which there is one probe


@dataclass(frozen=True, eq=False)
class Probes:
    """Probes by configuration, for `history.probe`; configurations that differ in Floats only share one.

    Floats of a Model's steps decide shapes: there those share one that are in the same of CELLS parts of its range.

    Args:
        store: keeps the probes with the study.
        space: resolves configurations.
        model, trainer, runtime, seed: the study's, to measure with.
        log: prints a line for each new probe.

    A probe that raises is stored with its reason, and is not tried again.
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
            new = self._measured(config)
            self.log(self._line(config, new))
            stored = self.store.remember(key, {**new.to_json(), **self._branch(config)})
        return Probe.from_json(stored)

    def _measured(self, config: Config) -> Probe:
        started = time.perf_counter()
        try:
            with Guarded():
                resolved = self.space.resolve(config)
                return probe(self.model, self.trainer, self.runtime, config=resolved, seed=self.seed)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return Probe.unmeasured(in_words(error), time.perf_counter() - started)

    def _line(self, config: Config, new: Probe) -> str:
        """Return a line of progress: the branch of the space, and what was measured there."""
        words = ["probe", *self._labels(config)]
        words += ["no rate"] if new.failed else [new.optimizer, f"rate {new.rate:.3g}"]
        words += [f"{new.seconds:.1f} s", new.screened]
        words += [f"not measured: {'; '.join(new.errors)}"] if new.errors else []
        return "  ".join(filter(None, words))

    def _branch(self, config: Config) -> dict[str, Any]:
        """Return the place of a probe among the others, for those who read the folder without the code that made it."""
        labels = self._labels(config)
        sizes = [f"{name.split('.')[-1]} {value}" for name, value in self.space.structure(config).items()]
        cells = [f"{name.split('.')[-1]} in part {n + 1} of {CELLS}" for name, n in self._cells(config).items()]
        others = [size for size in [*sizes, *cells] if size not in labels]
        return {"number": len(self.store.recall_all(PROBE)), "labels": labels, "others": others}

    def _labels(self, config: Config) -> list[str]:
        """Return the settings that tell the probes of a space apart: labels, and the batch size."""
        unit = self.space.to_unit(config).tolist()
        active = [(axis, u) for axis, u in zip(self.space.coordinates, unit, strict=True) if u == u]
        told = [(axis, u) for axis, u in active if isinstance(axis.parameter, Choice) or axis.path[-1] == "batch_size"]
        return [f"{axis.path[-1]} {axis.parameter.from_unit(u)}" for axis, u in told if axis.parameter.levels > 1]

    def screened(self, config: Config) -> str:
        """Return the reason why the structure cannot be trained; empty if it can, or has no probe yet."""
        stored = self.store.recall(self._key(config))
        return "" if stored is None else str(stored["screened"])

    def _key(self, config: Config) -> str:
        structure, cells = self.space.structure(config), self._cells(config)
        facts = {"structure": structure, "steps": cells} if cells else structure
        return f"{PROBE}{digest(json.dumps(facts, sort_keys=True)):x}"

    def _cells(self, config: Config) -> dict[str, int]:
        """Return the part of its range that each Float of a step is in, by name."""
        if not self.model.steps:
            return {}
        unit = self.space.to_unit(config).tolist()
        of_steps = [
            (axis.name, u)
            for axis, u in zip(self.space.coordinates, unit, strict=True)
            if axis.path[0] in self.model.steps and isinstance(axis.parameter, Float) and u == u
        ]
        return {name: min(int(u * CELLS), CELLS - 1) for name, u in of_steps}


def probes_of(store: Store) -> dict[str, Probe]:
    """Return the probes that a study has stored, by branch of the space, in the order in which they were measured."""
    stored = sorted(store.recall_all(PROBE).values(), key=lambda one: int(one["number"]))
    others = [set(one["others"]) for one in stored]
    shared = set.intersection(*others) if others else set()  # these tell no probe from another
    words = [["probe", *one["labels"], *(other for other in one["others"] if other not in shared)] for one in stored]
    return {" ".join(of): Probe.from_json(one) for of, one in zip(words, stored, strict=True)}
