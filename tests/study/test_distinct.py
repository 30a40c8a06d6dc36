"""No configuration is trained twice under the same seed while another is left."""

import pytest

import tuneflow as tn

SEARCHERS = {
    "random": tn.Random,
    "sobol": tn.Sobol,
    "grid": lambda: tn.Grid(24, shuffle=True),
    "tpe": lambda: tn.TPE(start=4),
    "gp": tn.GP,
    "auto": tn.Auto,
    "cmaes": tn.CMAES,
    "evolution": lambda: tn.Evolution(4, 2),
    "nsga2": lambda: tn.NSGA2(4),
    "lecun": lambda: tn.LeCun(tn.Random()),
}
every_searcher = pytest.mark.parametrize("make", SEARCHERS.values(), ids=SEARCHERS.keys())

SPACES = {
    "24 points": lambda: tn.SearchSpace(
        a=tn.Int(1, 4), b=tn.Choice(["x", "y", "z"]), c=tn.Choice([1, 2], ordered=True)
    ),
    "where": lambda: tn.SearchSpace(where=lambda c: c["a"] <= c["b"], a=tn.Int(0, 4), b=tn.Int(0, 4)),
    "branches": lambda: tn.SearchSpace(
        k=tn.Choice({"a": tn.SearchSpace(n=tn.Int(1, 7)), "b": None, "c": tn.SearchSpace(m=tn.Choice([1, 2]), d=3)})
    ),
    "log Int": lambda: tn.SearchSpace(n=tn.Int(1, 20, log=True)),
    "steps and a prior": lambda: tn.SearchSpace(
        x=tn.Float(0, 1, step=0.25), k=tn.Choice({"a": 1, "b": 2, "c": 3}, prior=[0.998, 0.001, 0.001])
    ),
    "one configuration": lambda: tn.SearchSpace(n=tn.Int(3, 3)),
}
SIZES = {"24 points": 24, "where": 15, "branches": 10, "log Int": 20, "steps and a prior": 15, "one configuration": 1}


def study_of(space, searcher, **settings):
    return tn.Study(space=space, searcher=searcher, minimize="loss", progress=False, **settings)


def loss_of(study, config):
    return sum((value - 0.3) ** 2 for value in study.space.to_unit(config) if value == value)


def asked(study, count, told=True):
    """The configurations of up to `count` trials that are asked for, and told one by one."""
    configs = []
    while len(configs) < count and (trial := study.ask()) is not None:
        configs.append(trial.config)
        if told:
            study.tell(trial, {"loss": loss_of(study, trial.config)})
    return configs


def distinct(configs):
    return len({str(config) for config in configs})


@every_searcher
@pytest.mark.parametrize("name", SPACES)
def test_a_finite_space_is_tried_to_its_end_and_nothing_twice(make, name):
    if make is tn.CMAES and name in ("branches", "one configuration"):
        pytest.skip("CMA-ES needs a number to search")
    study = study_of(SPACES[name](), make())
    configs = asked(study, SIZES[name])
    assert distinct(configs) == len(configs) == SIZES[name]
    assert [trial.repeats for trial in study.trials] == [None] * SIZES[name]
    again = study.ask()
    assert again is None if study.searcher.ends else again.repeats == configs.index(again.config)


@every_searcher
def test_trials_that_are_out_at_once_differ(make):
    assert distinct(asked(study_of(SPACES["24 points"](), make()), 24, told=False)) == 24


@every_searcher
def test_two_processes_on_one_folder_try_nothing_twice(make, tmp_path):
    both = [study_of(SPACES["24 points"](), make(), folder=tmp_path) for _ in range(2)]
    configs = [config for turn in range(24) for config in asked(both[turn % 2], 1)]
    assert distinct(configs) == len(configs) == 24
