"""The check of a searcher on a space of six configurations: it tries each of them, and says so where it ends."""

from collections.abc import Callable

from tuneflow.history.history import History
from tuneflow.history.objective import Objective
from tuneflow.history.trial import Report, Trial
from tuneflow.search.searcher import Searcher, proposed
from tuneflow.seeds import stream
from tuneflow.space.parameters import Choice, Int
from tuneflow.space.search_space import Config, SearchSpace
from tuneflow.testing.common import require

NAME, SIZE = "six configurations", 6
LONG = 40  # proposals after which a searcher that ends has ended
MORE = 4  # proposals of a searcher that does not end, once it has tried all


def check_small_space(make: Callable[[], Searcher]) -> None:
    """Check `ends`, `repeats` and `by_number` of a searcher where the study would have nothing left to try.

    Raises:
        AssertionError: one of them is not kept to.
    """
    space = SearchSpace(a=Int(1, 3), b=Choice(["x", "y"]))
    searcher = make()
    try:
        searcher.check(space)
    except ValueError:
        return
    configs = _until_none(searcher, space, once=True)
    all_tried = len({str(config) for config in configs}) == SIZE
    ended = f"it proposed None after {len(configs)} trials, and ends is False"
    require(all_tried or searcher.ends or searcher.repeats, NAME, ended)
    if searcher.ends:
        require(len(_until_none(make(), space, once=False)) < LONG, NAME, "it never proposed None, and ends is True")
    if searcher.by_number:
        same = _proposal(make(), space, 1.0) == _proposal(make(), space, -1.0)
        require(same, NAME, "it proposed another configuration after other scores, and by_number is True")


def _until_none(searcher: Searcher, space: SearchSpace, once: bool) -> list[Config]:
    history, configs = History(space, Objective((("loss", False),))), list[Config]()
    while len(configs) < (LONG if searcher.ends else SIZE + MORE):
        rng = stream(0, "search", history.number)
        config = proposed(searcher, space, history, rng, once)
        if config is None:
            break
        configs.append(config)
        history.record(_done(history.number, config, float(config["a"])))
    return configs


def _proposal(searcher: Searcher, space: SearchSpace, sign: float) -> Config | None:
    """Return the proposal after three trials; the sign of their scores decides which of them is the best."""
    history = History(space, Objective((("loss", False),)))
    for number in range(3):
        history.record(_done(number, {"a": number + 1, "b": "x"}, sign * number))
    return proposed(searcher, space, history, stream(0, "search", 3))


def _done(number: int, config: Config, loss: float) -> Trial:
    metrics = {"loss": loss}
    return Trial(number, config, "DONE", metrics=metrics, epochs=1, reports=(Report(1, metrics),))
