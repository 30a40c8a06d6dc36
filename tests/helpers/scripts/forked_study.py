"""A study over forks of a trained winner, to be killed: `python forked_study.py FOLDER SLOW`."""

import sys
import time
from pathlib import Path

import tuneflow as tn
from tests.helpers.narrowing import fork
from tests.helpers.small_studies import net


def make(folder, winner, **settings):
    return fork(tn.load(winner, net), folder=tn.Folder(folder, keep="all"), seed=2, **settings)


if __name__ == "__main__":
    folder, winner, slow = sys.argv[1:]
    make(Path(folder), winner, callbacks=[lambda study, trial: time.sleep(float(slow))]).run(trials=4)
