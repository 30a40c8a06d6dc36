"""A process that runs studies for long: nothing that it holds grows. Run: python tests/benchmarks/soak.py

Parts, each with a table of samples: 20,000 trials of a function of no cost in one run, kept in a folder; as many by
ask and tell; a study that is opened 50 times and gets 40 trials each time; and 200 trainings of a small convolutional
net on the digits: 100 in ten studies, one after the other, under Median, Population and Halving in turn; 80 in one
study with two worker processes that train in lanes; 20 in four such studies, one after the other.

The script fails where something grows. By how much a column grew over a part is the median slope over all pairs of
samples, less the first fifth of them, times the number of trials. Handles, threads, processes, files and temporary
files may grow by one; memory and folder by the bytes of a trial's record, which each part states; the time per trial by
its median. What was open before a part is open after it, and nothing else.

Each trial that ends waits for the disk; `--inside /dev/shm` leaves the disk out, since growth is not a matter of it.

`--leak` loses a file, a thread and 10 kB with each trial, to see that the script finds it.
"""

import argparse
import itertools
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from soak_samples import SUMMARY, Part, held
from torch import nn

import tuneflow as tn

FLAT = tn.SearchSpace(x=tn.Float(-5, 5), y=tn.Float(-5, 5))
TRIAL, TRAINING = 4096, 32768  # bytes of a record: a trial of one report; of three, with what torch keeps of a shape
ROW = 1024  # bytes of a trial's row, its index entries, and its place in the log
LEAKS: list[object] = []


def leak() -> None:
    LEAKS.append((open(os.devnull), bytearray(10_000)))  # noqa: SIM115 (it stays open)
    if len(LEAKS) % 100 == 0:
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def bowl(x: float, y: float) -> float:
    return (x - 1) ** 2 + y**2


def one_run(folder: Path, trials: int, each) -> Part:
    part, calls = Part(f"{trials} trials of a function, one run", TRIAL, ROW), iter(range(trials))

    def sampled(x, y):
        number = next(calls)
        if number and number % (trials // 20) == 0:
            part.take(number, folder)
        each()
        return bowl(x, y)

    tn.minimize(sampled, FLAT, trials=trials, folder=folder)
    return part


def ask_and_tell(folder: Path, trials: int, each) -> Part:
    part = Part(f"{trials} trials by ask and tell", TRIAL, ROW)
    with tn.Study(space=FLAT, minimize="value", folder=folder, progress=False) as study:
        for number in range(1, trials + 1):
            trial = study.ask()
            study.tell(trial, bowl(**trial.config))
            each()
            if number % (trials // 20) == 0:
                part.take(number, folder)
    return part


def opened_again(folder: Path, times: int, each) -> Part:
    part = Part(f"a study that is opened {times} times", TRIAL, ROW)
    for number in range(1, times + 1):
        tn.minimize(bowl, FLAT, trials=40 * number, folder=folder)
        each()
        part.take(40 * number, folder)
    return part


def convnet(width: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10),
    )  # fmt: skip


SCHEDULERS = (tn.Median(trials=2), tn.Population(members=8), tn.Halving())


def trained(folder: Path, scheduler: tn.Scheduler, **settings) -> tn.Study:
    train, valid, _ = tn.data.digits()
    return tn.Study(
        model=tn.Model(convnet),
        trainer=tn.Trainer(train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=3),
        space=tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 0.5, log=True), "momentum": tn.Float(0.0, 0.95)}),
        scheduler=scheduler,
        folder=tn.Folder(folder, keep=1),
        progress=False,
        **settings,
    )  # fmt: skip


def in_turn(folder: Path, studies: int, each, name: str, **settings) -> Part:
    part = Part(name, TRAINING, ROW)
    trials = settings.pop("trials")
    for number in range(studies):
        here = folder / "study"
        with trained(here, SCHEDULERS[number % len(SCHEDULERS)], seed=number, **settings) as study:
            study.run(trials=trials)
        each()
        del study
        part.take(trials * (number + 1), here)
        shutil.rmtree(here)
    return part


class OnEnd:
    """A callback of every trial's end."""

    def __init__(self, call: Callable[[tn.Study, tn.Trial], None]) -> None:
        self.on_trial_end = call


def workers_for_long(folder: Path, trials: int, each) -> Part:
    part = Part(f"{trials} trainings, two workers with lanes", TRAINING, 4 * ROW)

    def ended(study, trial):
        each()
        if (count := study.history.ended) % (trials // 20) == 0:
            part.take(count, folder)

    runtime = tn.Runtime(workers=2, lanes=4, threads=1)
    with trained(folder, tn.Median(), runtime=runtime, callbacks=[OnEnd(ended)]) as study:
        study.run(trials=trials)
    return part


def parts(share: float) -> Iterator[Callable[..., Part]]:
    """Yield each part, as a function of its folder and of what is called for each trial or study."""
    trials, lanes = int(20_000 * share), tn.Runtime(workers=2, lanes=4, threads=1)
    yield partial(one_run, trials=trials)
    yield partial(ask_and_tell, trials=trials)
    yield partial(opened_again, times=max(10, int(50 * share)))
    yield partial(in_turn, studies=max(5, int(10 * share)), trials=10, name="trainings, study after study")
    yield partial(workers_for_long, trials=max(20, int(80 * share)))
    yield partial(in_turn, studies=4, trials=5, name="studies with two workers and lanes", runtime=lanes)


def soaked(part: Callable[..., Part], folder: Path, each: Callable[[], None]) -> tuple[list[str], list[str]]:
    """Run a part in `folder`; return its summary, and a line for everything that grew or is still open after it."""
    before = held()
    result = part(folder, each=each)
    after = held()
    left = {what: count for what, count in after.items() if count > before[what]}
    lines = [f"{result.name}: {count} {what} after it, {before[what]} before" for what, count in left.items()]
    return result.summary(), result.growing() + lines


def warm_up(folder: Path) -> None:
    """Do everything once, so that modules, pools of threads and multiprocessing's helper process are there."""
    tn.minimize(bowl, FLAT, trials=20, folder=folder / "flat")
    for number, runtime in enumerate((tn.Runtime(), tn.Runtime(lanes=2), tn.Runtime(workers=2, threads=1))):
        with trained(folder / str(number), SCHEDULERS[number], runtime=runtime) as study:
            study.run(trials=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the trials, for a shorter soak")
    parser.add_argument(
        "--inside", help="the folder for everything that is written; the system's temporary one by default"
    )
    parser.add_argument("--leak", action="store_true", help="lose something with each trial")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="soak-", dir=options.inside) as root:
        os.environ["TMPDIR"] = tempfile.tempdir = f"{root}/tmp"  # of this process and its workers alone
        os.mkdir(tempfile.tempdir)
        warm_up(Path(root, "warm"))
        each = leak if options.leak else lambda: None
        folders = (Path(root, f"part{number}") for number in itertools.count())
        results = [soaked(part, next(folders), each) for part in parts(options.share)]
    rows = [SUMMARY, ["---"] * len(SUMMARY), *(summary for summary, _ in results)]
    faults = [line for _, lines in results for line in lines]
    print("", *(f"| {' | '.join(row)} |" for row in rows), "", *(faults or ["nothing grows"]), sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
