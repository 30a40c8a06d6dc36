"""The job in Syne Tune, which runs the script beside this one for each trial; its page is a picture."""

from pathlib import Path

import torch
from job import EPOCHS, TRIALS, convnet
from syne_tune import StoppingCriterion, Tuner
from syne_tune.backend import LocalBackend
from syne_tune.config_space import lograndint, loguniform, uniform
from syne_tune.experiments import load_experiment
from syne_tune.optimizer.baselines import ASHA

config_space = {"width": lograndint(8, 32), "dropout": uniform(0.0, 0.5), "lr": loguniform(1e-3, 1.0)}
backend = LocalBackend(str(Path(__file__).with_name("syne_tune_trial.py")))
scheduler = ASHA(config_space, metric="accuracy", time_attr="epoch", max_t=EPOCHS, do_minimize=False)
tuner = Tuner(backend, scheduler, StoppingCriterion(max_num_trials_started=TRIALS), n_workers=1)
tuner.run()
number, config = tuner.best_config()
model = convnet(config["width"], config["dropout"])
model.load_state_dict(torch.load(backend.checkpoint_trial_path(number) / "model.pt"))
load_experiment(tuner.name).plot(figure_path="report.png")
