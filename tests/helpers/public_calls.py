"""Public calls with good arguments, by name: what is given wrong arguments, one at a time."""

import inspect
from decimal import Decimal
from functools import cache, partial

import torch
from torch import nn

import tuneflow as tn

ROWS = torch.linspace(-1, 1, 32).reshape(8, 4)
DATA = (ROWS, torch.arange(8) % 2)
SPACE = tn.SearchSpace(x=tn.Float(0.0, 1.0))


def net(width=2):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))


@tn.loop(epochs=1)
def fit(config, run):
    for _ in run.epochs():
        yield {"loss": config["x"]}


def yields(config, run):
    yield {"loss": 0.5}


def square(x):
    return x * x


def study(**settings):
    return tn.Study(**{"space": SPACE, "progress": False, "runtime": tn.Runtime("cpu", threads=1)} | settings)


@cache
def trained():
    one = study(trainer=fit)
    one.run(trials=2)
    return one


def asked(method, **arguments):
    """Call a method of a study whose trial is out."""
    one = study(epochs=5)
    one.ask()
    return getattr(one, method)(**arguments)


def tuned(kind, **arguments):
    """Make a space of a parameter, which is checked with its name."""
    return tn.SearchSpace(p=kind(**arguments))


def expected(**arguments):
    return tn.SearchSpace(p=tn.Float(0.1, 1.0, prior=tn.Normal(**arguments)))


def moved(**arguments):
    """Make the optimizer of a module."""
    return tn.optim.MuonAdamW(net(), **arguments)


def grouped(**arguments):
    return tn.optim.Groups(torch.optim.SGD, **arguments)(net(), lr=0.1)


def averaged(**arguments):
    return tn.optim.Averaged(torch.optim.SGD, **arguments)


TRAINER = {"train": DATA, "valid": DATA, "loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD}
ATTACKED = {"module": net(), "data": DATA, "eps": 0.1, "box": (-1.0, 1.0)}
CALLS = {
    "CMAES": (tn.CMAES, {}),
    "Evolution": (tn.Evolution, {}),
    "GP": (tn.GP, {}),
    "Grid": (tn.Grid, {}),
    "LeCun": (tn.LeCun, {}),
    "NSGA2": (tn.NSGA2, {}),
    "TPE": (tn.TPE, {}),
    "Warm": (lambda **arguments: tn.Warm(**{"source": trained()} | arguments), {}),
    "Halving": (tn.Halving, {}),
    "Hyperband": (tn.Hyperband, {}),
    "Median": (tn.Median, {}),
    "Population": (tn.Population, {}),
    "Patience": (tn.Patience, {"epochs": 2}),
    "Float": (partial(tuned, tn.Float), {"low": 0.1, "high": 1.0}),
    "Int": (partial(tuned, tn.Int), {"low": 1, "high": 9}),
    "Choice": (partial(tuned, tn.Choice), {"options": [1, 2]}),
    "Permutation": (partial(tuned, tn.Permutation), {"items": [1, 2]}),
    "Constant": (partial(tuned, tn.Constant), {"value": 1}),
    "Normal": (expected, {"mean": 0.5, "sd": 0.1}),
    "SearchSpace": (tn.SearchSpace, {"x": tn.Float(0.0, 1.0)}),
    "Data": (tn.Data, {"inputs": ROWS, "targets": DATA[1]}),
    "Folder": (tn.Folder, {"path": "runs"}),
    "Model": (tn.Model, {"source": net}),
    "Runtime": (tn.Runtime, {"device": "cpu"}),
    "Study": (study, {"space": SPACE}),
    "Study with a trainer": (study, {"space": SPACE, "trainer": fit}),
    "Trainer": (tn.Trainer, TRAINER),
    "run": (lambda **arguments: study(trainer=fit).run(**({"trials": 1} | arguments)), {"seconds": 0.0}),
    "ask": (partial(asked, "ask"), {}),
    "tell": (partial(asked, "tell"), {"trial": 0, "metrics": 0.5}),
    "enqueue": (partial(asked, "enqueue"), {"config": {"x": 0.5}}),
    "result": (partial(asked, "result"), {"number": 0}),
    "confirm": (lambda **arguments: trained().confirm(**arguments), {}),
    "extend": (lambda **arguments: trained().extend(**arguments), {"epochs": 2}),
    "importance": (partial(asked, "importance"), {}),
    "loop": (lambda **arguments: tn.loop(**arguments)(yields), {"epochs": 1}),
    "minimize": (tn.minimize, {"f": square, "space": SPACE, "trials": 1, "progress": False}),
    "within": (tn.within, {"margin": 0.1, "of": 0.5}),
    "open": (tn.open, {"folder": "nowhere"}),
    "load": (tn.load, {"path": "nowhere.pt", "builder": net}),
    "Arithmetic": (tn.compress.Arithmetic, {}),
    "Distill": (tn.compress.Distill, {"teacher": net()}),
    "LowRank": (tn.compress.LowRank, {}),
    "Narrow": (tn.compress.Narrow, {}),
    "Widen": (tn.compress.Widen, {}),
    "APGD": (tn.harden.APGD, {"eps": 0.1}),
    "FGSM": (tn.harden.FGSM, {"eps": 0.1}),
    "PGD": (tn.harden.PGD, {"eps": 0.1}),
    "TRADES": (tn.harden.TRADES, {"eps": 0.1}),
    "Fast": (tn.harden.Fast, {"eps": 0.1}),
    "MedianFilter": (tn.harden.MedianFilter, {}),
    "Robust": (tn.harden.Robust, {"eps": 0.1}),
    "Rounding": (tn.harden.Rounding, {}),
    "Square": (tn.harden.Square, {"eps": 0.1}),
    "margins": (tn.harden.margins, ATTACKED),
    "Latency": (tn.measure.Latency, {}),
    "PeakMemory": (tn.measure.PeakMemory, {}),
    "top_k": (tn.metrics.top_k, {"k": 1}),
    "BalancedCrossEntropy": (tn.nn.BalancedCrossEntropy, {}),
    "Averaged": (averaged, {}),
    "Groups": (grouped, {"no_decay": False}),
    "MuonAdamW": (moved, {}),
    "Cosine": (tn.rates.Cosine, {}),
    "OneCycle": (tn.rates.OneCycle, {}),
    "Plateau": (tn.rates.Plateau, {}),
    "Step": (tn.rates.Step, {}),
    "Torch": (tn.rates.Torch, {"factory": lambda optimizer: None}),
    "Warmup": (tn.rates.Warmup, {}),
    "fashion_mnist": (tn.data.fashion_mnist, {"folder": "nowhere"}),
    "stream": (lambda key: tn.seeds.stream(key), {"key": 0}),
}
SIGNATURES = {  # of those that a function of this file calls
    "Float": tn.Float,
    "Int": tn.Int,
    "Choice": tn.Choice,
    "Permutation": tn.Permutation,
    "Constant": tn.Constant,
    "Normal": tn.Normal,
    "Warm": tn.Warm,
    "Study": tn.Study,
    "Study with a trainer": tn.Study,
    "run": tn.Study.run,
    "ask": tn.Study.ask,
    "tell": tn.Study.tell,
    "enqueue": tn.Study.enqueue,
    "result": tn.Study.result,
    "confirm": tn.Study.confirm,
    "extend": tn.Study.extend,
    "importance": tn.Study.importance,
    "loop": tn.loop,
    "MuonAdamW": tn.optim.MuonAdamW,
    "Groups": tn.optim.Groups,
    "Averaged": tn.optim.Averaged,
}
OURS = ("self", "module", "parameters")  # arguments that users do not give, or only as they are
UNNAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def arguments_of(name):
    """Return the names of a call's arguments that can be given by name."""
    call, settings = CALLS[name]
    parameters = inspect.signature(SIGNATURES.get(name, call)).parameters
    named = [
        each
        for each, one in parameters.items()
        if one.kind not in UNNAMED and each not in ("self", "module", "parameters")
    ]
    return list(dict.fromkeys([*named, *settings]))


class Unequal:
    """A value that cannot be compared."""

    def __eq__(self, other):
        raise RuntimeError("not compared")

    __hash__ = object.__hash__


class Unshown:
    """A value that cannot be shown."""

    def __repr__(self):
        raise RuntimeError("not shown")


HELD: dict = {}  # a dict that holds itself
HELD["a"] = HELD
WRONG = {
    "no": "no", "a": "a", "-1": -1, "0": 0, "2**40": 2**40, "10**400": 10**400, "nan": float("nan"),
    "inf": float("inf"), "None": None, "[]": [], "a dict in itself": HELD, "bytes": b"", "True": True, "1j": 1j,
    "an array": torch.ones(2), "of no dimension": torch.tensor(3), "Unequal": Unequal(), "sNaN": Decimal("sNaN"),
    "half a character": "a\ud800b",
}  # fmt: skip
TRAINING = ("confirm", "extend", "minimize")  # that take any large number, and work for it


def kind_of(name, argument):
    """Return an argument's annotation as text."""
    call, _ = CALLS[name]
    parameter = inspect.signature(SIGNATURES.get(name, call)).parameters.get(argument)
    if parameter is None:
        return ""
    annotation = parameter.annotation
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
