import pytest
import torch

import tuneflow as tn
from tuneflow.space.replaced import with_parameters


def space(where=()):
    choice = tn.Choice(
        {
            "sgd": tn.call(torch.optim.SGD, lr=tn.Float(1e-4, 1.0, log=True)),
            "adam": tn.call(torch.optim.Adam, lr=tn.Float(1e-5, 0.1, log=True)),
            "plain": torch.optim.SGD,
        }
    )
    return tn.SearchSpace(where=where, model={"width": tn.Int(4, 16), "depth": 2}, optimizer=choice)


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        pytest.param("model.width", tn.Int(4, 64), id="in a section"),
        pytest.param("optimizer.adam.lr", tn.Float(1e-5, 1.0, log=True), id="in a call behind a label"),
    ],
)
def test_a_parameter_is_replaced_and_nothing_else(name, parameter):
    before = space()
    after = with_parameters(before, {name: parameter})
    assert after.coordinates[after.parameters[name]].whole == parameter
    assert list(after.parameters) == list(before.parameters)
    assert after.resolve(before.from_unit([0.5] * 4)) is not None
    assert with_parameters(after, {name: before.coordinates[before.parameters[name]].whole}) == before


def test_a_constant_keeps_the_shape_of_configurations():
    after = with_parameters(space(), {"model.width": tn.Constant(8)})
    assert after.from_unit([0.1] * 3)["model"] == {"width": 8, "depth": 2}


def test_constraints_stay():
    after = with_parameters(space(lambda config: config["model"]["width"] > 8), {"model.width": tn.Int(4, 64)})
    assert not after.allows({"model": {"width": 8, "depth": 2}, "optimizer": "plain"})


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"no parameter model\.height; it has model\.width"):
        with_parameters(space(), {"model.height": tn.Int(1, 2)})
