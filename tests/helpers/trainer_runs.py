"""Training by a trainer alone, without a study: epochs one after the other, and their results in a form to compare."""

import io

import torch

import tuneflow as tn


def run(trainer, job, until=None, state=None):
    """(last state, reports) of training on to `until`, by default to the end."""
    return run_with_reason(trainer, job, until or trainer.epochs, state)[:2]


def run_with_reason(trainer, job, until, state=None):
    """(last state, reports, reason) of training on to `until`; the reason is why it ended early."""
    reports, state = [], trainer.init(job) if state is None else state
    training = trainer.advance(job, state, until)
    while True:
        try:
            state, report = next(training)
            reports.append(report)
        except StopIteration as stopped:
            return state, reports, stopped.value


def through_file(state):
    """The state as it comes back from a file."""
    buffer = io.BytesIO()
    torch.save(state.values, buffer)
    buffer.seek(0)
    return tn.types.TrainState(state.epoch, torch.load(buffer, weights_only=True))


def flat(value):
    """The leaves of nested values and the keys above them, tensors as lists of numbers."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in [key, *flat(value[key])]]
    if isinstance(value, list | tuple):
        return [leaf for inner in value for leaf in flat(inner)]
    return [value.tolist() if isinstance(value, torch.Tensor) else value]


def facts(reports):
    """Everything in reports but seconds."""
    return [(r.epoch, r.metrics, r.errors) for r in reports]
