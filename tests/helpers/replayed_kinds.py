"""Small honest studies of many kinds, trained and ready to be replayed."""

import torch
from torch import nn

import tuneflow as tn

TRAIN, VALID, _ = tn.data.digits()
TRAIN, VALID = TRAIN[:200], VALID[:100]
ALL = tn.Folder(None, keep="all")
ONE = tn.Runtime("cpu", threads=1)
RATES = {"optimizer": {"lr": tn.Float(1e-3, 0.3, log=True)}}


def net(width=8, dropout=0.2):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10)
    )


def trainer(**settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 3} | settings
    rows = (TRAIN,) if "folds" in settings else (TRAIN, VALID)
    return tn.Trainer(*rows, metrics={"accuracy": tn.metrics.accuracy} | settings.pop("metrics", {}), **settings)


def studied(trials=2, space=None, **settings):
    """A study that has run."""
    settings = {"trainer": trainer(), "minimize": "loss", "folder": ALL, "runtime": ONE, "progress": False} | settings
    if "model" not in settings and not isinstance(settings["trainer"], type(own_loop)):
        settings["model"] = tn.Model(net)
    study = tn.Study(space=tn.SearchSpace(**(RATES if space is None else space)), **settings)
    study.run(trials=trials)
    return study


@tn.loop(epochs=3)
def own_loop(config, run):
    model = run.place(net())
    optimizer = torch.optim.Adam(model.parameters(), **config["optimizer"])
    for _ in run.epochs(model=model, optimizer=optimizer):
        model.train()
        for inputs, targets in run.batches(TRAIN, 50):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            outputs = model(VALID.inputs)
        yield {"loss": nn.functional.cross_entropy(outputs, VALID.targets).item()}


def population(folder=None):
    return studied(10, scheduler=tn.Population(members=4), trainer=trainer(epochs=4), folder=folder)


def extended():
    study = studied()
    study.extend(epochs=5)
    study.run(trials=5)
    return study


def confirmed(folder=ALL):
    study = studied(folder=folder)
    study.confirm(top=2, seeds=1)
    return study


def final_models(folder=ALL):
    study = studied(trainer=trainer(folds=2), folder=folder)
    study.best.model()
    return study


def of_a_winner():
    return studied(model=tn.Model(studied(1).best), space={"optimizer": {"lr": tn.Float(1e-3, 0.01)}})


def diverging():
    return studied(3, space={"optimizer": {"lr": tn.Choice([1e30, 0.1])}}, searcher=tn.Grid(2))


def patient():
    return studied(searcher=tn.Sobol(), paired=False, trainer=trainer(patience=1, epochs=6))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(8, 32), nn.Linear(32, 10)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)

    def forward(self, inputs):
        return self.head(self.layer(self.embed(inputs.squeeze(1))).mean(1))


def threads(folder=ALL):
    """A study that two threads have trained."""
    return studied(1, model=tn.Model(Attention), runtime=tn.Runtime("cpu", threads=2), folder=folder)


HONEST = {
    "plain": studied,
    "adam": lambda: studied(trainer=trainer(optimizer=torch.optim.AdamW)),
    "loop": lambda: studied(trainer=own_loop),
    "population": population,
    "halving": lambda: studied(6, scheduler=tn.Halving(3), trainer=trainer(epochs=9)),
    "median": lambda: studied(6, scheduler=tn.Median(trials=2)),
    "extended": extended,
    "confirmed": confirmed,
    "folds and final models": final_models,
    "replicas": lambda: studied(replicas=2),
    "winner": of_a_winner,
    "diverging": diverging,
    "patience, unpaired": patient,
    "one cycle": lambda: studied(trainer=trainer(schedule=tn.rates.OneCycle())),
    "measures": lambda: studied(
        trainer=trainer(metrics={"macs": tn.measure.MACs(), "ms": tn.measure.Latency(seconds=0.01)})
    ),
    "augmented": lambda: studied(trainer=trainer(augment=lambda inputs: inputs + torch.randn_like(inputs))),
    "bf16": lambda: studied(runtime=tn.Runtime("cpu", threads=1, precision="bf16")),
    "averaged": lambda: studied(trainer=trainer(optimizer=tn.optim.Averaged(torch.optim.SGD, decay=0.9))),
    "lanes": lambda: studied(8, runtime=tn.Runtime("cpu", threads=1, lanes=8)),
    "threads": threads,
    "workers": lambda: studied(4, runtime=tn.Runtime("cpu", threads=1, workers=2)),
}
