"""Rates at which advice finds planted faults, and raises alarms in healthy studies.

Run: python tests/benchmarks/advice.py [--seeds 40] [--trials 40]

Closed forms (tests/helpers/advised_studies.py) for every rule, under a random search and under TPE; and softmax
regressions on the bundled digits, trained by gradient descent, with a parameter that nothing uses: under sound rates,
which are flat for long, and under rates that end below the best ones. A rule's false alarms are those in the studies
without a fault.
"""

import argparse
from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

import tuneflow as tn
from tests.helpers.advised_studies import FAULTS, AdvisedStudy
from tuneflow.analysis.advice import advice_of
from tuneflow.analysis.record import StudyRecord

TRAIN, VALID, _ = tn.data.digits()
EPOCHS, STEPS = 12, 4
FIRST = 1000  # seed; the rules' thresholds were chosen on others


def rows(data: tn.Data, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Standardized images, shape (count, 64), and their classes."""
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count]
    inputs = data.inputs.flatten(1)[chosen]
    return (inputs - inputs.mean()) / inputs.std(), data.targets[chosen]


def softmax_study(seed: int, low: float, high: float) -> StudyRecord:
    """A study of softmax regressions on 300 rows, of which the rate and the momentum count, and `unused` does not.

    Args:
        seed: of the rows and the search.
        low: lower end of the range of the rate; the best is about 1.
        high: upper end.
    """
    inputs, targets = rows(TRAIN, 300, seed)
    unseen, answers = rows(VALID, 300, seed)
    labels = functional.one_hot(targets, 10).float()

    @tn.loop(epochs=EPOCHS, check=False)
    def train(config, run):
        weights, velocity = torch.zeros(64, 10), torch.zeros(64, 10)
        for _ in run.epochs(weights=weights, velocity=velocity):
            for _ in range(STEPS):
                gradient = inputs.T @ (torch.softmax(inputs @ weights, 1) - labels) / len(inputs)
                velocity.mul_(config["momentum"]).sub_(gradient, alpha=config["rate"])
                weights.add_(velocity)
            each = functional.cross_entropy(unseen @ weights, answers, reduction="none")
            fitted = functional.cross_entropy(inputs @ weights, targets)
            yield {"loss": (float(each.mean()), float(each.std() / len(each) ** 0.5)), "train_loss": float(fitted)}

    space = tn.SearchSpace(rate=tn.Float(low, high, log=True), momentum=tn.Float(0.0, 0.9), unused=tn.Float(0.0, 1.0))
    study = tn.Study(space=space, trainer=train, minimize="loss", seed=seed, progress=False)
    study.run(trials=40)
    return study.record()


def rates(records: Iterable[StudyRecord]) -> dict[str, float]:
    found, count = Counter(), 0
    for count, record in enumerate(records, 1):  # noqa: B007
        found.update({finding.rule for finding in advice_of(record)})
    return {rule: number / count for rule, number in found.most_common()}


def show(name: str, rates: dict[str, float]) -> None:
    print(f"{name:32}", ", ".join(f"{rule} {rate:.3f}" for rule, rate in rates.items()) or "no finding", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--trials", type=int, default=40)
    chosen = parser.parse_args()
    seeds = range(FIRST, FIRST + chosen.seeds)
    for searcher in (tn.Random, tn.TPE):
        for fault in (None, *FAULTS):
            studies = (AdvisedStudy(seed, fault) for seed in seeds)
            name = f"{searcher.__name__}, {fault or 'healthy'}"
            show(name, rates(study.record(chosen.trials, searcher()) for study in studies))
    for name, ends in (("sound rates", (1e-2, 10.0)), ("low rates", (1e-5, 1e-2))):
        show(f"digits, {name}", rates(softmax_study(seed, *ends) for seed in seeds))


if __name__ == "__main__":
    main()
