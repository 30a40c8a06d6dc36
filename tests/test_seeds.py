"""Seeds: every draw follows from a key, and nobody else's randomness is touched."""

import hashlib
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import space_strategies as some
from tests.helpers.global_generators import drawn_next, generators_untouched
from tests.helpers.space_strategies import laws
from tuneflow.seeds import digest, seeded_globals, stream, torch_stream

words = st.text("abcdefgh", min_size=1, max_size=6)
keys = st.lists(some.seeds | words, min_size=1, max_size=4).map(tuple)
ODD = [-1, 0, 2**40, 2**64, -(2**64), 10**30]


@laws
@given(st.lists(keys, min_size=2, max_size=2, unique=True))
def test_different_keys_give_different_draws(pair):
    one, other = pair
    assert digest(*one) != digest(*other)
    assert stream(*one).random(4).tolist() != stream(*other).random(4).tolist()
    assert not torch.equal(*(torch.rand(4, generator=torch_stream(*key)) for key in pair))


@laws
@given(keys)
def test_same_key_gives_the_same_draws(key):
    assert digest(*key) == digest(*key)
    assert stream(*key).random(4).tolist() == stream(*key).random(4).tolist()
    assert torch.equal(*(torch.rand(4, generator=torch_stream(*key)) for _ in range(2)))


@laws
@given(keys)
def test_making_generators_touches_no_global_one(key):
    with generators_untouched():
        stream(*key).random()
        torch.rand(1, generator=torch_stream(*key))


@pytest.mark.parametrize("seed", ODD)
def test_any_whole_number_is_a_seed(seed):
    others = [stream(other).random() for other in ODD if other != seed]
    assert stream(seed).random() not in others
    with seeded_globals(seed):
        inside = drawn_next()
    with seeded_globals(seed):
        assert drawn_next() == inside


def test_numbers_of_numpy_are_the_same_seeds():
    assert digest(np.int64(3), "order") == digest(3, "order")


def test_order_and_number_of_parts_matter():
    made = {digest(*key) for key in [(1, 2), (2, 1), (12,), (1, 2, 0), (1, "2"), ("1", 2), ("12",), ("1", "2")]}
    assert len(made) == 8


def test_digest_is_blake2b_of_the_parts():
    wanted = hashlib.blake2b(b"#-1\x1forder\x1f#3", digest_size=16).digest()
    assert digest(-1, "order", 3) == int.from_bytes(wanted, "little") < 2**128


def test_draws_are_those_of_the_first_release():
    """Golden numbers of tuneflow 0.1: if they change, stored studies do not go on as they began."""
    assert stream(0, "search", 7).integers(1000, size=4).tolist() == [515, 353, 843, 543]
    assert torch.randint(1000, (4,), generator=torch_stream(0, "order", 1)).tolist() == [893, 325, 377, 833]


def test_neighboring_keys_are_not_related():
    draws = np.array([stream(0, "search", number).random() for number in range(4000)])
    lag = np.corrcoef(draws[:-1], draws[1:])[0, 1]
    assert abs(lag) < 3.3 / np.sqrt(4000)  # a false alarm once in 1,000
    assert abs(draws.mean() - 0.5) < 3.3 / np.sqrt(12 * 4000)


# The global generators.


@laws
@given(keys)
def test_globals_are_those_of_the_key_within_and_put_back_after(key):
    with generators_untouched():
        with seeded_globals(*key):
            inside = torch.rand(2).tolist(), random.random(), np.random.random()  # noqa: NPY002
        torch.rand(0)
        with seeded_globals(*key):
            again = torch.rand(2).tolist(), random.random(), np.random.random()  # noqa: NPY002
        with seeded_globals(*key, "more"):
            other = torch.rand(2).tolist(), random.random(), np.random.random()  # noqa: NPY002
    assert again == inside
    assert all(a != b for a, b in zip(inside, other, strict=True))


def test_globals_within_do_not_depend_on_those_outside():
    torch.manual_seed(1)
    with seeded_globals(0):
        inside = drawn_next()
    torch.manual_seed(2)
    random.seed(2)
    np.random.seed(2)  # noqa: NPY002
    with seeded_globals(0):
        assert drawn_next() == inside


def test_globals_are_put_back_when_the_block_raises():
    def fails():
        with seeded_globals(0):
            torch.rand(5), random.random(), np.random.random()  # noqa: NPY002
            raise KeyboardInterrupt

    with generators_untouched(), pytest.raises(KeyboardInterrupt):
        fails()


def test_blocks_may_be_nested():
    with seeded_globals(0):
        straight = drawn_next()
    with seeded_globals(0):
        with seeded_globals(1):
            torch.rand(5)
        assert drawn_next() == straight


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_every_device_has_the_generator_of_the_key_and_gets_its_own_back():
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        before = [state.clone() for state in torch.cuda.get_rng_state_all()]
        drawn = []
        for _ in range(2):
            with seeded_globals(0, device=device):
                drawn.append(torch.rand(3, device=device))
            torch.rand(3, device=device)
        assert torch.equal(*drawn)
        torch.cuda.set_rng_state_all(before)
        with seeded_globals(0, device=device):
            torch.rand(3, device=device)
        assert all(map(torch.equal, torch.cuda.get_rng_state_all(), before))
