"""Replicas: the same configuration under several seeds, in step, with a mean and its error."""

import math
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.global_generators import generators_untouched
from tests.helpers.trainer_runs import facts, run_with_reason, through_file
from tuneflow.errors import Diverged
from tuneflow.execute.inline import InlineExecutor
from tuneflow.history.trial import Slice
from tuneflow.train.function_trainer import Function
from tuneflow.train.loop import loop
from tuneflow.train.loop_state import differences
from tuneflow.train.protocol import TrainerProtocol
from tuneflow.train.repeated import Repeated

TRAIN, VALID, _ = tn.data.digits()


def net():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 10)
    )


def trainer(**settings):
    settings = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.SGD, "epochs": 4, "batch_size": 128} | settings
    return tn.Trainer(TRAIN, VALID, metrics={"accuracy": tn.metrics.accuracy}, **settings)


def job(config=None, **settings):
    config = {"optimizer": {"lr": 0.05, "momentum": 0.9}} if config is None else config
    return tn.types.Job(tn.Model(net), config, tn.Runtime("cpu"), **settings)


@loop(epochs=6)
def scripted(config, run):
    """Replica i reports i + epoch, until the epoch that the configuration says for it; then it ends."""
    replica = torch.initial_seed()
    ends, drawn = config["ends"], {"sum": 0.0}
    weight = torch.zeros(2)
    number = config["seeds"].index(replica) if replica in config["seeds"] else None
    for epoch in run.epochs(drawn=drawn, weight=weight):
        if number is None:
            yield {"value": float(replica % 1000)}
            continue
        if epoch > ends[number]:
            return f"replica {number} has enough"
        drawn["sum"] += torch.rand(()).item()
        weight += torch.rand(2)
        yield {"value": float(number + epoch), "sum": drawn["sum"]}


def seeds(count):
    """The seeds that torch has while a replica builds."""
    found = []
    for replica in range(count):
        with job(replica=replica).at_work("init", 0):
            found.append(torch.initial_seed())
    return found


def script(*ends):
    return job({"ends": list(ends), "seeds": seeds(len(ends))})


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_replicas_in_pieces_equal_replicas_at_once(optimizer):
    if optimizer == "sgd":
        ours, this = Repeated(trainer(schedule=tn.rates.OneCycle()), 3), job()
    else:
        ours, this = Repeated(trainer(optimizer=torch.optim.Adam), 3), job({"optimizer": {"lr": 0.01}})
    whole, reports, _ = run_with_reason(ours, this, 4)
    state, pieces = ours.init(this), []
    for until in (1, 3, 4):
        state, more, _ = run_with_reason(ours, this, until, through_file(state))
        pieces += more
    assert facts(pieces) == facts(reports)
    assert differences(state.values, whole.values) == []


def test_a_report_is_the_mean_of_the_replicas_and_its_standard_error():
    this, alone = job(), trainer(epochs=2)
    _, reports, _ = run_with_reason(Repeated(alone, 3), this, 2)
    single = [run_with_reason(alone, replace(this, replica=i), 2)[1] for i in range(3)]
    for epoch, report in enumerate(reports):
        assert report.metrics.keys() == single[0][epoch].metrics.keys()
        for name, value in report.metrics.items():
            values = torch.tensor([reports[epoch].metrics[name] for reports in single], dtype=torch.float64)
            assert value == pytest.approx(values.mean().item(), rel=1e-12)
            assert report.errors[name] == pytest.approx(values.std().item() / math.sqrt(3), rel=1e-12)
            assert report.errors[name] > 0


def test_each_replica_is_the_trainer_under_its_own_seed():
    this, alone = job(), trainer(epochs=2)
    state, _, _ = run_with_reason(Repeated(alone, 2), this, 2)
    for i in range(2):
        single, _, _ = run_with_reason(alone, replace(this, replica=i), 2)
        assert differences(state.values["repetitions"][i], single.values) == []
    assert differences(*state.values["repetitions"]) != []


def test_one_replica_is_the_trainer():
    _, reports, _ = run_with_reason(Repeated(trainer(), 1), job(), 2)
    assert facts(reports) == facts(run_with_reason(trainer(), job(), 2)[1])


def test_seconds_add_up():
    _, (report,), _ = run_with_reason(Repeated(Seconds(), 4), job(), 1)
    assert report.seconds == 10.0


def test_the_replicas_are_the_job_s_and_those_that_follow():
    ours, this = Repeated(Seconds(), 2), job(replica=5)
    assert ours.modules(this, ours.init(this)) == [5, 6]
    assert ours.module(this, ours.init(this)) == 5


class Seconds(TrainerProtocol):
    """A trainer that says that replica i took i + 1 seconds."""

    epochs = 1

    def init(self, job):
        return tn.types.TrainState(0, {})

    def advance(self, job, state, until):
        yield tn.types.TrainState(1, {}), tn.types.Report(1, {"loss": 1.0}, {}, job.replica + 1.0)
        return ""

    def module(self, job, state):
        return job.replica


@pytest.mark.parametrize("ends", [(2, 4), (4, 2), (1, 3), (3, 3), (5, 2)])
@pytest.mark.parametrize("cuts", [(6,), (1, 2, 3, 4, 5, 6), (2, 6), (3, 6), (4, 6)])
def test_a_replica_that_ended_counts_with_its_last_report_however_the_trial_is_cut(ends, cuts):
    ours, this = Repeated(scripted, 2), script(*ends)
    state, reports, reason = ours.init(this), [], ""
    for until in cuts:
        state, more, reason = run_with_reason(ours, this, until, through_file(state))
        reports += more
    values = [[i + min(epoch, end) for i, end in enumerate(ends)] for epoch in range(1, max(ends) + 1)]
    assert [report.metrics["value"] for report in reports] == [sum(pair) / 2 for pair in values]
    assert [report.errors["value"] for report in reports] == pytest.approx([abs(a - b) / 2 for a, b in values])
    assert reason == f"replica {ends.index(max(ends))} has enough"
    whole, at_once, _ = run_with_reason(ours, this, 6)
    assert facts(at_once) == facts(reports)
    assert differences(whole.values, state.values) == []


def test_a_trial_with_an_ended_replica_reaches_its_full_length():
    ours = Repeated(scripted, 3)
    state, reports, reason = run_with_reason(ours, script(2, 9, 1), 6)
    assert (len(reports), reason, state.epoch) == (6, "", 6)
    assert state.values["done"] == [1, 0, 1]
    assert state.values["epochs"] == [2, 6, 1]


def test_a_replica_that_ends_before_its_first_report_does_not_count():
    _, reports, _ = run_with_reason(Repeated(scripted, 2), script(0, 9), 2)
    assert [report.metrics["value"] for report in reports] == [2.0, 3.0]
    state, reports, reason = run_with_reason(Repeated(scripted, 2), script(0, 0), 2)
    assert (state.epoch, reports, reason) == (0, [], "replica 0 has enough")


def test_patience_of_a_trainer_ends_replica_by_replica():
    ours, config = Repeated(trainer(patience=1, epochs=12), 2), {"optimizer": {"lr": 0.5, "momentum": 0.9}}
    for seed in range(20):
        lengths = [len(run_with_reason(ours.trainer, job(config, seed=seed, replica=i), 12)[1]) for i in range(2)]
        if lengths[0] != lengths[1] and max(lengths) < 12:
            break
    _, reports, reason = run_with_reason(ours, job(config, seed=seed), 12)
    assert min(lengths) < max(lengths) < 12
    assert (len(reports), reason) == (max(lengths), "loss no better for 1 epoch")


def test_a_replica_that_diverges_makes_the_trial_diverge():
    @loop(epochs=3)
    def bursts(config, run):
        for epoch in run.epochs():
            yield {"loss": math.nan if epoch == 2 and torch.initial_seed() == config["seed"] else 0.5}

    with job(replica=1).at_work("epoch", 2):
        config = {"seed": torch.initial_seed()}
    ours = Repeated(bursts, 2)
    training = ours.advance(job(config), ours.init(job(config)), 3)
    next(training)
    with pytest.raises(Diverged, match="epoch 2") as caught:
        next(training)
    assert caught.value.__notes__ == ["in replica 1"]


def test_a_state_is_not_touched_by_training_on_and_shares_nothing():
    ours, this = Repeated(scripted, 2), script(1, 9)
    states = [state for state, _ in ours.advance(this, ours.init(this), 3)]
    before = [pickle.loads(pickle.dumps(state.values)) for state in states]
    run_with_reason(ours, this, 6, states[1])
    assert all(differences(state.values, was) == [] for state, was in zip(states, before, strict=True))
    held = [values["state"]["weight"].data_ptr() for state in states for values in state.values["repetitions"]]
    assert len(set(held)) == len(held) == 6


def test_a_study_that_is_not_paired_has_replicas_of_its_own():
    _, (paired,), _ = run_with_reason(Repeated(trainer(), 2), job(), 1)
    _, (apart,), _ = run_with_reason(Repeated(trainer(), 2), job(trial=3), 1)
    assert paired.metrics != apart.metrics


def test_the_global_generators_are_left_alone():
    ours = Repeated(trainer(), 2)
    with generators_untouched():
        state, _, _ = run_with_reason(ours, job(), 2)
        ours.module(job(), state)


def test_the_module_is_that_of_replica_0_also_when_it_ended_long_ago():
    ours, alone, this = Repeated(trainer(), 2), trainer(), job()
    state, _, _ = run_with_reason(ours, this, 2)
    single, _, _ = run_with_reason(alone, this, 2)
    found, wanted = ours.module(this, state), alone.module(this, single)
    assert differences(dict(found.state_dict()), dict(wanted.state_dict())) == []
    state.values["done"][0] = 1
    later, _, _ = run_with_reason(ours, this, 3, state)
    assert differences(dict(ours.module(this, later).state_dict()), dict(wanted.state_dict())) == []


def test_a_plain_function_has_replicas_too():
    ours = Repeated(Function(lambda: torch.rand(()).item()), 5)
    _, (report,), _ = run_with_reason(ours, job({}), 1)
    assert 0 < report.metrics["value"] < 1
    assert report.errors["value"] > 0


def test_infinite_values_have_no_error():
    ours = Repeated(Function(lambda: math.inf), 2)
    _, (report,), _ = run_with_reason(ours, job({}), 1)
    assert report.metrics["value"] == math.inf
    assert report.errors == {}


def test_the_executor_takes_replicas_and_ends_them_with_their_reason():
    executor = InlineExecutor(tn.Runtime("cpu"))
    executor.submit(Slice(0, 0, 6), Repeated(scripted, 2), script(1, 2), None)
    events = []
    while executor.busy:
        events += executor.wait()
    assert (events[-1].status, events[-1].reason, len(events)) == ("STOPPED", "replica 1 has enough", 3)


def test_replicas_hand_on_what_the_trainer_tells():
    alone = trainer()
    ours = pickle.loads(pickle.dumps(Repeated(alone, 3)))
    assert (ours.epochs, ours.reports) == (4, ["loss", "accuracy", "train_loss"])
    assert ours.describe() == {**alone.describe(), "replicas": 3}
    assert ours.evaluate == ours.trainer.evaluate
    bare = Repeated(scripted, 2)
    assert bare.reports is None
    assert not hasattr(bare, "evaluate")
    assert repr(bare) == "Repeated(loop scripted, 6 epochs, 2)"


@pytest.mark.parametrize("count", [0, -1, 1.0, True, None])
def test_the_number_of_replicas_is_a_whole_number(count):
    with pytest.raises(ValueError, match="Repeated: replicas needs to be a whole number >= 1, got"):
        Repeated(scripted, count)
