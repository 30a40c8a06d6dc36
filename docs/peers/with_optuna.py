"""The job in Optuna; the page needs plotly."""

import optuna
import torch
from job import EPOCHS, TRIALS, accuracy, convnet, train_epoch


def objective(trial):
    model = convnet(trial.suggest_int("width", 8, 32, log=True), trial.suggest_float("dropout", 0.0, 0.5))
    optimizer = torch.optim.SGD(model.parameters(), lr=trial.suggest_float("lr", 1e-3, 1.0, log=True))
    for epoch in range(EPOCHS):
        train_epoch(model, optimizer)
        trial.report(accuracy(model), epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    torch.save(model.state_dict(), f"{trial.number}.pt")
    return accuracy(model)


study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner())
study.optimize(objective, n_trials=TRIALS)
best = study.best_trial
model = convnet(best.params["width"], best.params["dropout"])
model.load_state_dict(torch.load(f"{best.number}.pt"))
optuna.visualization.plot_optimization_history(study).write_html("report.html")
