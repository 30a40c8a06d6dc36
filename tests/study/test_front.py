"""The front of several objectives: as a table, under fresh seeds, and on other data."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.analysis.front_remarks import remarks_of
from tuneflow.analysis.score_text import settings_text, value_text
from tuneflow.errors import StudyError
from tuneflow.history.objective import Limit, Objective
from tuneflow.metrics.measured import Estimate, number_text
from tuneflow.store.sqlite import SqliteStore
from tuneflow.study.front import FrontScores
from tuneflow.study.result import Scores

CALLS = []
BOTH = Objective((("accuracy", True), ("size", False)), "last")


@tn.loop(epochs=2)
def traded(config, run):
    """Accuracy is bought with size, and luck; beyond 0.9 it diverges under most seeds."""
    weight = torch.zeros(1)
    for _ in run.epochs(weight=weight):
        CALLS.append(config["x"])
        luck = float(torch.randn(1))
        weight.fill_(config["x"] + 0.3 * luck)
        yield {"accuracy": float(weight), "size": 1e6 * config["x"]}


def study(trainer=traded, **more):
    settings = {"maximize": "accuracy", "minimize": "size", "paired": False, "progress": False} | more
    return tn.Study(space=tn.SearchSpace(x=tn.Float(0.0, 0.8)), trainer=trainer, **settings)


def front_of(made):
    return [result.number for result in made.front]


def test_a_front_is_a_list_and_prints_as_a_table():
    made = tn.Study(space=tn.SearchSpace(x=tn.Int(0, 9)), maximize="accuracy", minimize="macs", progress=False)
    assert repr(made.front) == "no trial is on the front"
    for accuracy, macs in ((0.5, 1_204_224), (0.25, 100_000), (0.25, 2_000_000)):
        made.tell(made.ask(), {"accuracy": (accuracy, 0.0125), "macs": macs})
    assert isinstance(made.front, list)
    assert repr(made.front).splitlines() == [
        "trial  accuracy          macs       configuration",
        f"0      0.5000 +- 0.0125  1,204,224  {made.trials[0].config}",
        f"1      0.2500 +- 0.0125  100,000    {made.trials[1].config}",
        "[+- standard error]",
    ]
    assert repr(made.front[0]).startswith("trial 0: accuracy 0.5000 +- 0.0125, macs 1,204,224 (standard error, ")


def test_show_lists_the_front_first(tmp_path):
    made = tn.Study(
        space=tn.SearchSpace(x=tn.Int(0, 9)), maximize="accuracy", minimize="macs", progress=False, folder=tmp_path
    )
    for accuracy, macs in ((0.25, 2e6), (0.5, 1e6), (0.4, 1e4), (0.3, 2e4)):
        made.tell(made.ask(), {"accuracy": accuracy, "macs": macs})
    rows = [line.split()[:5] for line in tn.open(tmp_path).listing().splitlines()[1:]]
    assert rows[0] == ["trial", "status", "front", "accuracy", "macs"]
    assert [(row[0], row[2] == "yes") for row in rows[1:]] == [("1", True), ("2", True), ("3", False), ("0", False)]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.87125, "0.8712"), (1204224.0, "1,204,224"), (512, "512"), (99.5, "99.5000"), (3e-6, "3e-06"), (0.0, "0.0000"),
     (3.25564984e300, "3.256e+300"), (math.nan, "nan"), (-math.inf, "-inf")],
)  # fmt: skip
def test_numbers_of_any_size_are_readable(value, text):
    assert number_text(value) == text


def test_sections_of_steps_are_short():
    config = {"arithmetic": {"precision": "int8", "channels_last": True}, "narrow": {"macs": 4.123456, "by": "obd"}}
    assert settings_text(config, ["narrow", "widen", "arithmetic"]) == (
        "narrow macs 4.123 by obd, widen, arithmetic precision int8 channels_last"
    )
    assert settings_text({"narrow": {"even": False}, "lr": 0.123456}, ["narrow"]) == "narrow; {'lr': 0.1235}"


@pytest.mark.parametrize("scheduler", [tn.Full(), tn.Halving(2), tn.Hyperband(2)], ids=repr)
@pytest.mark.parametrize("searcher", [tn.TPE(3), tn.NSGA2(4), tn.Evolution(10), tn.CMAES(), tn.Random()], ids=repr)
def test_every_searcher_trades_a_noisy_goal_for_an_exact_one_within_a_limit(searcher, scheduler):
    made = study(searcher=searcher, scheduler=scheduler, limits={"accuracy": tn.within(0.5, of=0.6)})
    made.run(trials=10)
    costs = np.array([made.objective.costs(result.metrics) for result in made.front])
    assert len(costs)
    assert all(result.metrics["accuracy"] >= 0.1 for result in made.front)
    assert not any(((costs <= own).all(1) & (costs < own).any(1)).any() for own in costs)


# Under fresh seeds.


def test_the_front_is_that_of_the_means_until_more_trials_end(tmp_path):
    with study(folder=tmp_path) as made:
        made.run(trials=12)
        observed = front_of(made)
        CALLS.clear()
        members = made.confirm(front=True, seeds=3)
        assert [m.number for m in members] == observed
        assert len(CALLS) == 2 * 3 * len(observed)
        for member in members:
            assert member.confirmed.seeds == 3
            assert member.confirmed.metrics["size"] == pytest.approx(1e6 * member.config["x"])
            assert member.confirmed.errors["size"] == 0
        means = {m.number: m.confirmed.metrics for m in members}
        remarks = remarks_of(made.objective, means)
        assert front_of(made) == [number for number in observed if not remarks[number]]
        assert 0 < len(front_of(made)) < len(observed)  # luck was in it
        assert "beaten by trial" in repr(members)
        assert "[means over 3 fresh seeds, +- standard error]" in repr(made.front)
        table = repr(made.front)
        CALLS.clear()
    with study(folder=tmp_path) as again:
        assert repr(again.front) == table
        assert [t.number for t in tn.open(tmp_path).front] == front_of(again)
        again.confirm(front=True, seeds=3)
        assert CALLS == []
        again.run(trials=13)
        assert all(result.confirmed is None for result in again.front)


def test_a_kill_loses_no_training_of_a_front(tmp_path, monkeypatch):
    def killed(store, key, value):
        if len(kept) == 4:
            raise KeyboardInterrupt
        kept.append(remember(store, key, value))
        return kept[-1]

    kept, made, straight = [], study(folder=tmp_path), study()
    for each in (made, straight):
        each.run(trials=8)
    remember = SqliteStore.remember
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "remember", killed)
        with pytest.raises(KeyboardInterrupt):
            made.confirm(front=True, seeds=2)
    made.close()
    CALLS.clear()
    with study(folder=tmp_path) as again:
        members = again.confirm(front=True, seeds=2)
        assert len(CALLS) == 2 * (2 * len(members) - 4)
        assert repr(members) == repr(straight.confirm(front=True, seeds=2))


def test_top_takes_the_ends_of_the_front_first():
    made = study(paired=True)
    made.run(trials=8)
    made_front = made.front
    by_size = sorted(made_front, key=lambda result: result.metrics["size"])
    members = made.confirm(front=True, top=2, seeds=1)
    assert {m.number for m in members} == {by_size[0].number, by_size[-1].number}
    assert set(front_of(made)) <= {m.number for m in members}


def test_members_that_diverge_or_break_a_limit_by_the_means_drop_out():
    @tn.loop(epochs=1)
    def unsteady(config, run):
        for _ in run.epochs(weight=torch.zeros(1)):
            luck = float(torch.randn(1))
            accuracy = math.nan if config["x"] > 0.4 and luck < 0 else config["x"]
            yield {"accuracy": accuracy, "size": config["x"], "memory": abs(luck)}

    made = study(unsteady, limits={"memory": 1.0})
    made.run(trials=20)
    members = made.confirm(front=True, seeds=4)
    reasons = {m.number: m.confirmed.reason for m in members if m.confirmed.reason}
    beyond = {m.number for m in members if m.confirmed.metrics.get("memory", 0) > 1}
    assert reasons
    assert all(reason.startswith("DIVERGED") and reason in repr(members) for reason in reasons.values())
    assert not (set(reasons) | beyond) & set(front_of(made))


def test_confirm_says_which_way_a_study_is_confirmed():
    with pytest.raises(StudyError, match=r"has several; use front=True"):
        study().confirm()
    with pytest.raises(StudyError, match=r"front=True needs several objectives, got one, accuracy"):
        study(minimize=None).confirm(front=True)
    with pytest.raises(StudyError, match=r"front from their start, and there are none"):
        study().confirm(front=True)
    with pytest.raises(ValueError, match=r"confirm: top needs to be a whole number >= 1, got 0"):
        study().confirm(front=True, top=0)


# On other data.


@pytest.fixture(scope="module")
def digits():
    train, valid, test = tn.data.digits()
    trainer = tn.Trainer(
        train[:200], valid[:100], loss=nn.CrossEntropyLoss(), optimizer=torch.optim.Adam, epochs=1,
        metrics={
            "accuracy": tn.metrics.accuracy,
            "products": tn.measure.MACs(),
            "latency": tn.measure.Latency(seconds=0.01),
        },
    )  # fmt: skip
    made = tn.Study(
        model=tn.Model(lambda width: nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 10))),
        trainer=trainer, progress=False, maximize="accuracy", minimize="products",
        space=tn.SearchSpace(model={"width": tn.Int(1, 64)}, optimizer={"lr": tn.Float(1e-3, 0.1, log=True)}),
    )  # fmt: skip
    made.run(trials=4)
    return made, test[:200]


def test_each_member_is_tested_on_other_data(digits):
    made, test = digits
    tested = made.test(test)
    assert list(tested) == front_of(made)
    for result in made.front:
        accuracy, products = tested[result.number]["accuracy"], tested[result.number]["products"]
        assert str(accuracy) == str(result.test(test)["accuracy"])
        assert accuracy.low < accuracy.value
        assert products.value == result.metrics["products"]
        assert tested[result.number]["latency"].low != result.metrics["latency"]  # it is measured anew
    assert repr(tested).splitlines()[0].split() == ["trial", "accuracy", "products", "loss", "latency"]
    assert set(tested.front) <= set(tested)


def test_show_has_the_metrics_that_are_no_goals(digits, tmp_path):
    made, _ = digits
    with tn.Study(
        model=made.model, trainer=made.trainer.single, progress=False, space=made.space, maximize="accuracy",
        folder=tmp_path,
    ) as again:  # fmt: skip
        again.run(trials=1)
        products = number_text(again.best.metrics["products"])
    head, row = (line.split() for line in tn.open(tmp_path).listing().splitlines()[1:3])
    assert head[:7] == ["trial", "status", "accuracy", "products", "latency", "epochs", "seconds"]
    assert row[3] == products


def test_results_show_the_metrics_of_the_module(digits):
    made, _ = digits
    result = made.front[0]
    assert f"products {number_text(result.metrics['products'])}, latency {result.metrics['latency']:.4f} +- " in repr(
        result
    )
    members = made.confirm(front=True, top=1, seeds=2)
    (member,) = members
    assert member.confirmed.errors["latency"] > 0  # that of the one measurement of its structure
    assert repr(members).splitlines()[0].split() == ["trial", "accuracy", "products", "latency", "configuration"]


def test_a_limit_on_a_measure_is_below_whatever_its_name_is(digits):
    made, _ = digits
    again = tn.Study(
        model=made.model, trainer=made.trainer.single, space=made.space, progress=False, maximize="accuracy",
        limits={"products": tn.within(100, of=made.front[0])},
    )  # fmt: skip
    (limit,) = again.objective.limits
    assert limit.least is None
    assert limit.most == pytest.approx(made.front[0].metrics["products"] + 100)


def scores_of_members(*values):
    """Scores of several members, from accuracy and size of each."""
    scores = {
        number: Scores({"accuracy": Estimate(a, a, a, 10), "size": Estimate(s, s, s, 0)})
        for number, (a, s) in enumerate(values)
    }
    return FrontScores(scores, BOTH)


def test_an_interval_that_is_none_over_examples_is_told_apart():
    scores = {0: Scores({"accuracy": Estimate(0.9, 0.8, 1.0, 10), "latency": Estimate(2.0, 1.9, 2.1, 0)})}
    note = "[95 % intervals over 10 examples; of latency by the metric's own error]"
    assert repr(FrontScores(scores, BOTH)).splitlines()[-1] == note


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(121_567, 1539.33, "121,567 +- 1,539"), (121_567, 0.5, "121,567 +- 0.5000"), (3.0, 0.25, "3.0000 +- 0.2500")],
)
def test_an_error_has_as_many_decimals_as_its_number(value, error, text):
    assert value_text("macs", {"macs": value}, {"macs": error}) == text


def test_the_winner_is_tested_beside_the_front(digits):
    made, test = digits
    forks = tn.Study(
        model=tn.Model(made.front[0]), trainer=made.trainer.single, progress=False, maximize="accuracy",
        minimize="products", space=tn.SearchSpace(optimizer={"lr": 0.01}),
    )  # fmt: skip
    forks.run(trials=1)
    tested = forks.test(test)
    winner = made.front[0].test(test)
    assert [str(tested.winner[name]) for name in ("accuracy", "products")] == [
        str(winner[name]) for name in ("accuracy", "products")
    ]
    assert repr(tested).splitlines()[-2].split()[0] == "winner"
    assert list(tested) == [0]
    assert made.test(test).winner is None


def test_members_that_are_beaten_on_other_data_are_marked():
    scores = scores_of_members((0.9, 3.0), (0.8, 2.0), (0.85, 2.0), (0.7, 1.0))
    assert scores.front == [0, 2, 3]
    assert repr(scores).splitlines()[2].endswith("beaten by trial 2")
    assert repr(scores).splitlines()[-1] == "[95 % intervals over 10 examples]"


def test_without_a_metric_that_counts_there_is_no_front_of_other_data():
    scores = FrontScores({3: Scores({"accuracy": Estimate(0.5, 0.4, 0.6, 9)})}, BOTH)
    assert "0.5000" in repr(scores)
    with pytest.raises(StudyError, match=r'"size" is not measured on them'):
        _ = scores.front


def test_remarks_agree_with_the_front_of_a_history():
    rng = np.random.default_rng(0)
    scores = {n: {"accuracy": a, "size": s} for n, (a, s) in enumerate(rng.integers(0, 6, (40, 2)).astype(float))}
    objective = Objective(BOTH.goals, "last", (Limit("size", None, 4.0),))
    made = tn.Study(
        space=tn.SearchSpace(x=tn.Float(0, 1)), maximize="accuracy", minimize="size", limits={"size": 4.0},
        progress=False,
    )  # fmt: skip
    for metrics in scores.values():
        made.tell(made.ask(), metrics)
    remarks = remarks_of(objective, scores)
    assert [number for number, remark in remarks.items() if not remark] == front_of(made)
    assert {n for n, remark in remarks.items() if remark == "beyond the limits"} == {
        n for n, metrics in scores.items() if metrics["size"] > 4
    }
    for remark in filter(lambda text: text.startswith("beaten"), remarks.values()):
        assert not remarks[int(remark.split()[-1])]


def test_of_trials_that_are_equal_in_all_goals_the_front_has_the_first():
    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), maximize="a", minimize="b", progress=False)
    for a, b in [(0.5, 2.0), (0.9, 3.0), (0.9, 3.0), (0.5, 2.0), (0.4, 2.0)]:
        study.tell(study.ask(), {"a": a, "b": b})
    assert [trial.number for trial in study.front] == [0, 1]
