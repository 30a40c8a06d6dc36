"""A framework's own loop, by ask and tell, is trained exactly as far as the same study by a tn.loop or tn.Trainer."""

import pytest
import torch

import tuneflow as tn
from tests.helpers.small_studies import make

X = torch.linspace(-1, 1, 16)[:, None] * torch.tensor([[1.0, 0.5]])
Y = X @ torch.tensor([2.0, -1.0])
SPACE = tn.SearchSpace(lr=tn.Float(1e-3, 3.0, log=True), decay=tn.Float(0.0, 0.5))


def step(weight, lr, decay):
    return weight - lr * (X.T @ (X @ weight - Y) / len(X) + decay * weight)


def loss_of(weight):
    return float((X @ weight - Y).square().mean())


@tn.loop(epochs=9)
def by_loop(config, run):
    weight = torch.zeros(2)
    for _ in run.epochs(weight=weight):
        weight.copy_(step(weight, **config))
        yield {"loss": loss_of(weight)}


class Module:
    """A model as Lightning has it: settings, a step, a validation."""

    def __init__(self, lr, decay):
        self.settings, self.weight = {"lr": lr, "decay": decay}, torch.zeros(2)

    def training_step(self):
        self.weight = step(self.weight, **self.settings)

    def validation_step(self):
        return {"loss": loss_of(self.weight)}


class Framework:
    """A trainer as Lightning has it: its own loop, with callbacks that may set `should_stop`."""

    def __init__(self, max_epochs, callbacks):
        self.max_epochs, self.callbacks, self.should_stop = max_epochs, callbacks, False

    def fit(self, module, epoch=0):
        while epoch < self.max_epochs and not self.should_stop:
            module.training_step()
            epoch += 1
            for callback in self.callbacks:
                callback.on_validation_end(self, module, module.validation_step())


class Prune:
    """Tells the study every epoch, keeps the weights, and stops the framework where the study says so."""

    def __init__(self, study, trial, kept):
        self.study, self.trial, self.kept = study, trial, kept

    def on_validation_end(self, framework, module, metrics):
        self.trial = self.study.tell(self.trial, metrics, done=False)
        self.kept[self.trial.number, self.trial.epochs] = module.weight.clone()
        framework.should_stop = self.trial.status != "RUNNING"


def by_framework(study, trials):
    kept = {}
    while (trial := study.ask(trials=trials)) is not None:
        module = Module(**trial.config)
        if trial.epochs:
            came_from = (trial.number, trial.epochs)
            module.weight = kept[came_from if came_from in kept else trial.parent]
        Framework(trial.until, [Prune(study, trial, kept)]).fit(module, trial.epochs)


class Recorded(tn.Scheduler):
    """Records the decisions of another scheduler, each one once."""

    def __init__(self, scheduler):
        self.scheduler, self._decisions = scheduler, []

    def check(self, history):
        self.scheduler.check(history)

    def next(self, space, history, rng):
        decision = self.scheduler.next(space, history, rng)
        if self._decisions[-1:] != [decision]:
            self._decisions.append(decision)
        return decision

    @property
    def decisions(self):
        return [decision for decision in self._decisions if not isinstance(decision, tn.schedule.Wait)]


def facts(study):
    return [
        (t.config, t.status, t.reason, t.epochs, t.parent, [dict(report.metrics) for report in t.reports])
        for t in study.trials
    ]


SCHEDULERS = {
    "full": (tn.Full, 4),
    "median": (lambda: tn.Median(trials=2), 8),
    "halving": (tn.Halving, 9),
    "hyperband": (tn.Hyperband, 12),
    "population": (lambda: tn.Population(members=4, every=2), 8),
}


@pytest.mark.parametrize(("scheduler", "trials"), SCHEDULERS.values(), ids=SCHEDULERS)
def test_a_framework_is_scheduled_as_a_loop_is(scheduler, trials):
    settings = {"space": SPACE, "minimize": "loss", "searcher": tn.Sobol(), "progress": False}
    loop = tn.Study(trainer=by_loop, scheduler=Recorded(scheduler()), **settings)
    loop.run(trials=trials)
    asked = tn.Study(epochs=9, scheduler=Recorded(scheduler()), **settings)
    by_framework(asked, trials)
    assert facts(asked) == facts(loop)
    assert asked.scheduler.decisions == loop.scheduler.decisions
    assert {t.status for t in asked.trials} <= {"DONE", "STOPPED"}
    assert scheduler is tn.Full or len({t.epochs for t in asked.trials}) > 1


def test_a_loop_around_tn_trainer_stops_where_the_study_by_trainer_does():
    scheduler = tn.Median(trials=2)
    study = make(scheduler=scheduler, seed=3)
    study.run(trials=6)
    asked = tn.Study(space=study.space, maximize="accuracy", epochs=3, scheduler=scheduler, seed=3, progress=False)
    while (trial := asked.ask(trials=6)) is not None:
        job = tn.types.Job(study.model, study.space.resolve(trial.config), study.runtime, study.seed)
        for _, report in study.trainer.advance(job, study.trainer.init(job), trial.until):
            trial = asked.tell(trial, report.metrics, errors=report.errors, done=False)
            if trial.ended:
                break
    assert facts(asked) == facts(study)
    assert asked.history.errors.tolist() == study.history.errors.tolist()
    assert "STOPPED" in {t.status for t in asked.trials}


@pytest.mark.parametrize("kind", [tn.TPE, tn.GP])
def test_a_searcher_proposes_alike_for_both(kind):
    settings = {"space": SPACE, "minimize": "loss", "scheduler": tn.Halving(), "progress": False}
    loop = tn.Study(trainer=by_loop, searcher=kind(), **settings)
    loop.run(trials=14)
    asked = tn.Study(epochs=9, searcher=kind(), **settings)
    by_framework(asked, 14)
    assert facts(asked) == facts(loop)


def train_slices(study, count):
    """Ask for so many slices, and report losses that fall with the epochs."""
    for _ in range(count):
        trial = study.ask()
        while trial.status == "RUNNING":
            trial = study.tell(trial, trial.config["x"] + 1 / (trial.epochs + 1), done=False)


def open_study(scheduler, **settings):
    space = tn.SearchSpace(x=tn.Float(0, 1))
    return tn.Study(space=space, scheduler=scheduler, progress=False, **settings)


def test_on_an_open_end_halving_has_rungs_without_end():
    study = open_study(tn.Halving(), searcher=tn.TPE())
    train_slices(study, 40)
    assert {1, 3, 9, 27} <= {t.epochs for t in study.trials} <= {1, 3, 9, 27, 81}
    assert [t.until for t in study.trials] == [t.epochs for t in study.trials]
    assert {t.status for t in study.trials} == {"PAUSED"}


def test_on_an_open_end_median_stops_and_what_is_told_once_is_a_finished_observation():
    study = open_study(tn.Median(trials=2))
    for loss in (1.0, 2.0, 3.0):
        assert study.ask().until is None
        assert study.tell(len(study.trials) - 1, loss).status == "DONE"
    trial = study.tell(study.ask(), 9.0, done=False)
    assert (trial.status, trial.reason) == ("STOPPED", "worse than 3 of 3 at epoch 1")
    assert study.history.reached.tolist()[:3] == [float("inf")] * 3
    assert study.history.costs.tolist() == [1.0, 2.0, 3.0, 9.0]


def test_on_an_open_end_a_population_goes_on_until_it_is_told_to_end():
    study = open_study(tn.Population(members=4, every=2))
    train_slices(study, 16)
    forks = [t.parent for t in study.trials if t.parent]
    assert forks
    assert {epoch for _, epoch in forks} == {2, 4, 6}
    assert study.tell(study.history.paused[0]).status == "DONE"


def test_on_an_open_end_hyperband_is_refused():
    with pytest.raises(ValueError, match=r"open end here; give tn.Study\(epochs=...\), or use tn.Halving\(\)"):
        open_study(tn.Hyperband())


class Halfway(tn.Scheduler):
    """A scheduler of one's own that knows the full length only."""

    def next(self, space, history, rng):
        if history.paused:
            return tn.schedule.Continue(history.paused[0].number, history.epochs)
        return tn.schedule.Start((history.epochs + 1) // 2)


def test_on_an_open_end_a_scheduler_of_ones_own_sees_a_far_end():
    study = open_study(Halfway())
    trial = study.tell(study.ask(), 1.0, done=False)
    assert (trial.status, trial.until > 10**6) == ("RUNNING", True)
