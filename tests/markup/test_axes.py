"""Frames: what is drawn stands where the axes say, with its label, and texts are text."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from tuneflow.markup.axes import Frame, standalone
from tuneflow.markup.paths import band_of, crosses_of, ranges_text, trials_path
from tuneflow.markup.scales import Axis, LabelAxis, LogAxis
from tuneflow.markup.texts import LETTER, spread_out

SVG = "{http://www.w3.org/2000/svg}"


def test_a_frame_is_well_formed_and_says_what_it_shows():
    frame = Frame(LogAxis(1e-4, 1.0), Axis(0, 1), titles=("<script>", "loss & more"))
    root = ElementTree.fromstring(standalone(frame.svg(label="losses", class_="wide")))
    texts = [part.text for part in root.iter(f"{SVG}text")]
    assert {"<script>", "loss & more", "0.01", "0.6"} <= set(texts)
    assert root.find(f"{SVG}title").text == root.get("aria-label") == "losses"
    assert root.get("class") == "chart wide"


def test_the_texts_of_ticks_at_the_edges_are_whole():
    frame = Frame(LabelAxis(["a long label", "b", "another label"]), Axis(0, 1), 260, 84, (8, 14, 24, 14), ticks=(5, 0))
    root = ElementTree.fromstring(frame.svg(label="x"))
    places = [(float(part.get("x")), len(part.text)) for part in root.iter(f"{SVG}text")]
    assert len(places) > 1
    assert all(x - LETTER * letters / 2 + 0.1 >= 0 and x + LETTER * letters / 2 - 0.1 <= 260 for x, letters in places)


def test_values_stand_where_the_axes_say():
    frame = Frame(Axis(0, 10), Axis(0, 1), width=200, height=100, margins=(10, 20, 30, 40))
    assert frame.at(0, 0) == (40, 70)
    assert frame.at(10, 1) == (180, 10)
    assert frame.at(5, float("nan")) == (110, 70)


def test_trials_of_a_path_have_a_part_each():
    path = trials_path(crosses_of([(1, 2), (30, 40)]), [3, 4], "crosses")
    assert path.count("M") == 2
    assert 'data-t="3-4"' in path
    assert trials_path("", [], "dots") is None


@pytest.mark.parametrize("numbers", [[], [7], [0, 1, 2], [3, 5, 6, 7, 2, 1]])
def test_ranges_name_every_number_in_order(numbers):
    runs = [[int(end) for end in run.split("-")] for run in ranges_text(numbers).split()]
    assert [number for run in runs for number in range(run[0], run[-1] + 1)] == numbers


def test_a_band_goes_there_and_back():
    assert band_of([(0, 1), (2, 1)], [(0, 3), (2, 3)]) == "M0 1L2 1L2 3L0 3Z"


def test_labels_keep_apart_and_in_their_order():
    places = spread_out([50, 10, 51, 52], least=10, low=0, high=60)
    assert places[1] < places[0] < places[2] < places[3] <= 60
    assert all(b - a > 10 - 1e-9 for a, b in pairwise(sorted(places)))
