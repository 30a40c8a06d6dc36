"""The job in Ray Tune, which makes no page."""

import tempfile
from pathlib import Path

import torch
from job import EPOCHS, TRIALS, accuracy, convnet, train_epoch
from ray import tune


def trainable(config):
    model = convnet(config["width"], config["dropout"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    for _ in range(EPOCHS):
        train_epoch(model, optimizer)
        with tempfile.TemporaryDirectory() as folder:
            torch.save(model.state_dict(), Path(folder) / "model.pt")
            tune.report({"accuracy": accuracy(model)}, checkpoint=tune.Checkpoint.from_directory(folder))


tuner = tune.Tuner(
    trainable,
    param_space={
        "width": tune.lograndint(8, 33),
        "dropout": tune.uniform(0.0, 0.5),
        "lr": tune.loguniform(1e-3, 1.0),
    },
    tune_config=tune.TuneConfig(
        metric="accuracy",
        mode="max",
        num_samples=TRIALS,
        scheduler=tune.schedulers.MedianStoppingRule(time_attr="training_iteration", grace_period=1),
    ),
)
best = tuner.fit().get_best_result()
model = convnet(best.config["width"], best.config["dropout"])
with best.checkpoint.as_directory() as folder:
    model.load_state_dict(torch.load(Path(folder) / "model.pt"))
