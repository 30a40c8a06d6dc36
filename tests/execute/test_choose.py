"""A runtime's own executor is checked when it is made."""

import pytest

import tuneflow as tn

SPACE = tn.SearchSpace(x=tn.Float(-1.0, 1.0))


class Partial:
    """An executor without stop, whose busy is a method."""

    free = 1

    def submit(self, work, trainer, job, state): ...

    def busy(self):
        return 0

    def wait(self):
        return []

    def close(self): ...


@pytest.mark.parametrize(
    ("factory", "lacks"), [(lambda runtime: None, "submit, wait"), (lambda runtime: Partial(), "stop")]
)
def test_an_executor_that_lacks_a_verb_is_named(factory, lacks):
    runtime = tn.Runtime("cpu", executor=factory)
    with pytest.raises(TypeError, match=f"executor needs to make an Executor.*it lacks {lacks}.*busy"):
        tn.minimize(lambda x: x, SPACE, trials=2, runtime=runtime)
