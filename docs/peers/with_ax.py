"""The job in Ax; its analyses are cards for a notebook."""

import torch
from ax.api.client import Client
from ax.api.configs import RangeParameterConfig
from job import EPOCHS, TRIALS, accuracy, convnet, train_epoch

client = Client()
client.configure_experiment(
    parameters=[
        RangeParameterConfig(name="width", parameter_type="int", bounds=(8, 32), scaling="log"),
        RangeParameterConfig(name="dropout", parameter_type="float", bounds=(0.0, 0.5)),
        RangeParameterConfig(name="lr", parameter_type="float", bounds=(1e-3, 1.0), scaling="log"),
    ]
)
client.configure_optimization(objective="accuracy")
for _ in range(TRIALS):
    for number, config in client.get_next_trials(max_trials=1).items():
        model = convnet(config["width"], config["dropout"])
        optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
        for epoch in range(EPOCHS):
            train_epoch(model, optimizer)
            client.attach_data(number, {"accuracy": accuracy(model)}, progression=epoch)
            if client.should_stop_trial_early(number):
                client.mark_trial_early_stopped(number)
                break
        else:
            client.complete_trial(number)
        torch.save(model.state_dict(), f"{number}.pt")
config, _, number, _ = client.get_best_parameterization()
model = convnet(config["width"], config["dropout"])
model.load_state_dict(torch.load(f"{number}.pt"))
cards = client.compute_analyses()
