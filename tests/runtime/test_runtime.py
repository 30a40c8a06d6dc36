"""A runtime is a description; what it asks for is made when a study runs."""

import pytest

import tuneflow as tn
from tuneflow.execute.choose import executor_for
from tuneflow.execute.inline import InlineExecutor


@tn.loop(epochs=1)
def fit(config, run):
    for _ in run.epochs():
        yield {"loss": config["x"]}


def test_an_executor_of_your_own_is_made_anew_by_each_run_from_the_runtime():
    made = []

    def factory(runtime):
        made.append(runtime)
        return InlineExecutor(runtime)

    runtime = tn.Runtime("cpu", threads=1, executor=factory)
    study = tn.Study(
        trainer=fit,
        space=tn.SearchSpace(x=tn.Float(0.0, 1.0)),
        minimize="loss",
        runtime=runtime,
        progress=False,
    )
    study.run(trials=2)
    study.run(trials=3)
    assert made == [study.runtime, study.runtime]
    assert len(study.trials) == 3


def test_a_class_is_a_factory_too_and_is_named_in_the_repr():
    class Own(InlineExecutor):
        pass

    runtime = tn.Runtime("cpu", threads=1, executor=Own)
    assert type(executor_for(runtime)) is Own
    assert repr(runtime) == 'Runtime("cpu", threads=1, executor=Own)'


def test_an_executor_in_place_of_its_factory_is_refused():
    executor = InlineExecutor(tn.Runtime("cpu"))
    with pytest.raises(TypeError, match=r"executor needs to be a function of the runtime .* got <.*; pass the class"):
        tn.Runtime("cpu", executor=executor)
