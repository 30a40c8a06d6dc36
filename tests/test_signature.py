"""Which keyword arguments a callable takes, and what is said when one does not fit."""

from functools import partial

import pytest
import torch
from torch import nn

from tuneflow.signature import check_complete, check_keywords, name_of, parameters_of


def net(width, depth=2, *, act=nn.ReLU):
    return width, depth, act


def anything(first, **rest):
    return first, rest


def positional(a, /, b):
    return a, b


class Net(nn.Module):
    def __init__(self, width, depth=2):
        super().__init__()

    def build(self, rate):
        return rate


class Made:
    def __call__(self, width=1):
        return width


NAMES = [
    (net, "net"),
    (Net, "Net"),
    (Net.build, "build"),
    (Net(1).build, "build"),
    (partial(net, width=1), "net"),
    (partial(partial(Net, 1), depth=1), "Net"),
    (Made(), "Made"),
    (partial(Made()), "Made"),
    (len, "len"),
    (lambda: 0, "<lambda>"),
    (torch.optim.SGD, "SGD"),
]


@pytest.mark.parametrize(("function", "name"), NAMES, ids=[name for _, name in NAMES])
def test_every_callable_has_a_readable_name(function, name):
    assert name_of(function) == name


def test_function_made_within_a_function_has_its_own_name():
    def inner():
        pass

    assert name_of(inner) == "inner"


# (callable, its keywords, how many leading arguments the library gives)
FITS = [
    (net, ["width", "depth", "act"], 0),
    (Net, ["width", "depth"], 0),
    (Net(1).build, ["rate"], 0),
    (Made(), ["width"], 0),
    (partial(net, 8), ["depth", "act"], 0),
    (partial(net, width=8), ["width", "depth"], 0),
    (anything, ["whatever"], 0),
    (dict, ["whatever"], 0),
    (positional, ["b"], 0),
    (torch.optim.SGD, ["lr", "momentum", "nesterov"], 1),
    (partial(torch.optim.SGD, lr=0.1), ["momentum"], 1),
]


@pytest.mark.parametrize(("function", "names", "given"), FITS)
def test_keywords_that_a_callable_takes_pass(function, names, given):
    check_keywords(function, names, "here", given)


# (callable, keyword, given, what the message says)
UNFIT = [
    (net, "widht", 0, ["net", 'Did you mean "width"?', "width, depth, act"]),
    (Net, "act", 0, ["Net", "width, depth"]),
    (Net(1).build, "self", 0, ["build", "rate"]),
    (partial(net, 8), "width", 0, ["net", "depth, act"]),
    (positional, "a", 0, ["positional", "It takes b"]),
    (torch.optim.SGD, "params", 1, ["SGD", "lr, momentum"]),
    (torch.optim.SGD, "momentun", 1, ["SGD", 'Did you mean "momentum"?']),
    (lambda: 0, "x", 0, ["<lambda>", "It takes nothing"]),
]


@pytest.mark.parametrize(("function", "word", "given", "pieces"), UNFIT)
def test_keyword_that_does_not_fit_is_named_with_those_that_do(function, word, given, pieces):
    with pytest.raises(TypeError) as caught:
        check_keywords(function, [word], 'space section "model"', given)
    message = str(caught.value)
    assert message.startswith('space section "model": ')
    assert all(piece in message for piece in [f'"{word}"', *pieces]), message


# (callable, its keywords, given, what is missing)
INCOMPLETE = [
    (net, [], 0, "width"),
    (net, ["depth"], 0, "width"),
    (Net, [], 0, "width"),
    (anything, ["other"], 0, "first"),
    (positional, [], 0, "a, b"),
    (positional, [], 1, "b"),
    (Net(1).build, [], 0, "rate"),
]


@pytest.mark.parametrize(("function", "names", "given", "missing"), INCOMPLETE)
def test_missing_argument_is_named_with_a_way_out(function, names, given, missing):
    with pytest.raises(TypeError) as caught:
        check_complete(function, names, "here", given)
    message = str(caught.value)
    assert message.startswith(f"here: {name_of(function)} also needs {missing};")
    assert "functools.partial" in message


COMPLETE = [
    (net, ["width"], 0),
    (partial(net, 3), [], 0),
    (partial(net, width=3), [], 0),
    (Made(), [], 0),
    (dict, [], 0),
    (torch.optim.Adam, [], 1),
    (lambda *args, **kwargs: 0, [], 0),
]


@pytest.mark.parametrize(("function", "names", "given"), COMPLETE)
def test_complete_arguments_pass(function, names, given):
    check_complete(function, names, "here", given)


def test_builtin_that_does_not_tell_has_no_parameters():
    assert parameters_of(dict) is None
    assert [parameter.name for parameter in parameters_of(net)] == ["width", "depth", "act"]
