"""The job in tuneflow."""

import torch
from job import EPOCHS, TRIALS, convnet, right, train, valid
from torch import nn

import tuneflow as tn

trainer = tn.Trainer(
    train, valid, loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=EPOCHS, metrics={"accuracy": right}
)
space = tn.SearchSpace(
    model={"width": tn.Int(8, 32, log=True), "dropout": tn.Float(0.0, 0.5)},
    optimizer={"lr": tn.Float(1e-3, 1.0, log=True)},
)
study = tn.Study(model=tn.Model(convnet), trainer=trainer, space=space, scheduler=tn.Median(), maximize="accuracy")
study.run(trials=TRIALS)
model = study.best.model()
study.report("report.html")
