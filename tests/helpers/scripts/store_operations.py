"""Random trials of one process on a store that others share: `store_operations.py STORE LOG SEED TRIALS`.

Each trial is claimed, reported, paused and taken again now and then, and ended; a line of the log tells what returned.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

from tuneflow.history.trial import Report, Trial
from tuneflow.store.sqlite import SqliteStore


def lives(store, rng, number, noted):
    """Train a claimed trial to its end, unless another process takes it while it is paused."""
    trial = Trial(number, store.next_queued(number) or {"number": number})
    noted("queued", trial.config.get("queued"))
    store.enter(trial, once=False)
    reports = []
    for epoch in (1, 2, 3):
        reports.append(Report(epoch, {"loss": number / epoch}))
        store.report(number, reports[-1])
        if rng.random() < 0.2:
            store.put(Trial(number, trial.config, "PAUSED"))
            store.commit()
            if not store.take(number):
                return
        elif rng.random() < 0.3:
            store.commit()
    ending = {"metrics": {"loss": number / 3}, "epochs": 3, "reports": reports}
    store.put(Trial(number, trial.config, "DONE", **ending))
    if number not in store.commit():
        noted("ended", number)


def main(path, log, seed, trials):
    store, rng = SqliteStore(Path(path), "never"), np.random.default_rng(int(seed))
    with Path(log).open("a") as lines:

        def noted(*facts):
            print(json.dumps(facts), file=lines, flush=True)

        for count in range(int(trials)):
            store.enqueue({"queued": f"{seed} {count}"})
            number = store.claim(math.inf)
            noted("claimed", number)
            if rng.random() < 0.1:
                noted("released", number)  # before, as a kill may come in between
                store.release(number)
            else:
                lives(store, rng, number, noted)
            store.changes()
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
