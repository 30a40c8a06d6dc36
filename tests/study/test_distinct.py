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
QUICK = {name: make for name, make in SEARCHERS.items() if name not in ("gp", "auto")}
quick_searchers = pytest.mark.parametrize("make", QUICK.values(), ids=QUICK.keys())

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


@quick_searchers
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


@pytest.mark.parametrize("make", [tn.GP, tn.Auto])
def test_a_gp_tries_every_one_of_24_points(make):
    configs = asked(study_of(SPACES["24 points"](), make()), 40 if make is tn.Auto else 24)
    assert distinct(configs) == len(configs) == 24


@every_searcher
def test_trials_that_are_out_at_once_differ(make):
    assert distinct(asked(study_of(SPACES["24 points"](), make()), 24, told=False)) == 24


@quick_searchers
def test_two_processes_on_one_folder_try_nothing_twice(make, tmp_path):
    both = [study_of(SPACES["24 points"](), make(), folder=tmp_path) for _ in range(2)]
    configs = [config for turn in range(24) for config in asked(both[turn % 2], 1)]
    assert distinct(configs) == len(configs) == 24


@tn.loop(epochs=2)
def fit(config, run):
    for _ in run.epochs():
        yield {"loss": (config["a"] - 2) ** 2 + config["c"]}


@pytest.mark.parametrize("settings", [{"lag": 3}, {"replicas": 2}, {"scheduler": tn.Median(trials=2)}], ids=str)
def test_a_run_ends_when_nothing_is_left_to_try(settings):
    study = study_of(SPACES["24 points"](), tn.Auto(), trainer=fit, **settings)
    study.run()
    assert distinct(trial.config for trial in study.trials) == len(study.trials) == 24


def test_a_run_says_that_nothing_is_left(capsys):
    for searcher in (tn.Grid(24), tn.Random()):
        tn.Study(space=SPACES["24 points"](), trainer=fit, minimize="loss", searcher=searcher).run(trials=26)
    shown = capsys.readouterr().err
    assert shown.count("stopped: search space exhausted after 24 trials") == 1
    assert shown.count("all configurations were tried; from trial 24 on") == 1


def test_a_study_in_pieces_tries_nothing_twice(tmp_path):
    for total in (7, 8, 20, 24):
        study_of(SPACES["24 points"](), tn.GP(), trainer=fit, folder=tmp_path).run(trials=total)
    assert distinct(trial.config for trial in tn.open(tmp_path).trials) == len(tn.open(tmp_path).trials) == 24


def test_what_is_put_in_the_queue_may_come_twice_and_counts_as_tried():
    study = study_of(SPACES["24 points"](), tn.Sobol())
    for _ in range(2):
        study.enqueue({"a": 1, "b": "x", "c": 1})
    configs = asked(study, 25)
    assert (configs[0], len(configs), distinct(configs)) == (configs[1], 25, 24)


def test_forks_are_not_counted():
    study = study_of(SPACES["24 points"](), tn.Random(), trainer=fit, scheduler=tn.Population(members=4))
    study.run(trials=40)
    starts = [trial.config for trial in study.trials if trial.parent is None]
    assert distinct(starts) == len(starts)
    assert len(study.trials) > len(starts)


def test_a_study_that_is_not_paired_goes_on():
    study = study_of(SPACES["log Int"](), tn.Random(), trainer=fit_n, paired=False)
    study.run(trials=30)
    assert len(study.trials) == 30
    with pytest.raises(ValueError, match=r"run needs trials=.* since Random\(\) never ends"):
        study.run()


@tn.loop(epochs=1)
def fit_n(config, run):
    for _ in run.epochs():
        yield {"loss": config["n"]}
