import pytest

import tuneflow as tn
from tuneflow.space.wider import wider

CASES = [
    ("lr", tn.Float(1e-4, 0.1, log=True), True, tn.Float(1e-4, 1.0, log=True)),
    ("lr", tn.Float(1e-4, 0.1, log=True), False, tn.Float(1e-5, 0.1, log=True)),
    ("scale", tn.Float(2.0, 4.0), True, tn.Float(2.0, 5.0)),
    ("scale", tn.Float(2.0, 4.0), False, tn.Float(1.0, 4.0)),
    ("scale", tn.Float(0.5, 4.0), False, tn.Float(0.0, 4.0)),
    ("scale", tn.Float(0.0, 4.0), False, None),
    ("shift", tn.Float(-1.0, 1.0), False, tn.Float(-2.0, 1.0)),
    ("dropout", tn.Float(0.0, 0.5), True, tn.Float(0.0, 0.75)),
    ("momentum", tn.Float(0.0, 0.99), True, None),
    ("alpha", tn.Float(0.0, 1.0), True, None),
    ("step", tn.Float(0.0, 2.0, step=0.5), True, tn.Float(0.0, 3.0, step=0.5)),
    ("width", tn.Int(8, 64, log=True), True, tn.Int(8, 256, log=True)),
    ("width", tn.Int(8, 64, log=True), False, tn.Int(2, 64, log=True)),
    ("width", tn.Int(2, 64, log=True), False, tn.Int(1, 64, log=True)),
    ("width", tn.Int(1, 64, log=True), False, None),
    ("layers", tn.Int(2, 6), False, tn.Int(1, 6)),
    ("width", tn.Int(16, 64, step=16), False, None),
    ("width", tn.Int(32, 64, step=16), False, tn.Int(16, 64, step=16)),
    ("kind", tn.Choice(["a", "b"]), True, None),
    ("fixed", tn.Float(1.0, 1.0), True, None),
]


@pytest.mark.parametrize(
    ("name", "parameter", "upper", "expected"), CASES, ids=[f"case {i}" for i in range(len(CASES))]
)
def test_a_range_is_widened_as_far_as_its_meaning_allows(name, parameter, upper, expected):
    assert wider(f"model.{name}", parameter, upper) == expected


def test_a_prior_stays():
    prior = tn.Normal(0.01, sd=0.5)
    assert wider("lr", tn.Float(1e-4, 0.1, log=True, prior=prior), True).prior == prior
