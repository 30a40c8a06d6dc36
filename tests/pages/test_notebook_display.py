"""Studies in a real kernel: one display in place of lines, fragments, and interrupts without a traceback."""

import pytest

from tests.helpers.kernel import Kernel

BEGIN = """
import os, signal
import tuneflow as tn

@tn.loop(epochs=2, check=False)
def fit(config, run):
    for epoch in run.epochs():
        yield {"loss": config["x"] / epoch}

def study(**settings):
    runtime = tn.Runtime("cpu", threads=1)
    return tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), trainer=fit, runtime=runtime, **settings)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    for package in ("ipykernel", "jupyter_client"):
        pytest.importorskip(package)
    with Kernel(tmp_path_factory.mktemp("kernel")) as kernel:
        assert kernel.run(BEGIN) == []
        yield kernel


def test_a_run_has_one_display_that_ends_as_a_fragment(kernel):
    (kind, first), *updates = kernel.run("one = study()\none.run(trials=5)")
    assert kind == "display_data"
    assert "0/5  training 0" in first["data"]["text/plain"]
    assert 'role="progressbar"' in first["data"]["text/html"]
    assert {kind for kind, _ in updates} == {"update_display_data"}
    assert {content["transient"]["display_id"] for _, content in updates} == {first["transient"]["display_id"]}
    last = updates[-1][1]["data"]
    assert last["text/plain"] == "History(5 of 5 trials ended)"
    assert "best loss" in last["text/html"]
    assert "progressbar" not in last["text/html"]


def test_lines_that_matter_stay_in_the_display(kernel):
    *_, (_, last) = kernel.run("one.run(trials=5)")
    assert "5 of 5 trials done; nothing to do" in last["data"]["text/html"]


def test_no_progress_shows_nothing(kernel):
    assert kernel.run("study(progress=False).run(trials=2)") == []


def test_each_cell_has_a_display_of_its_own(kernel):
    cells = [kernel.run("one.run(trials=8)"), kernel.run("one.run(trials=9)")]
    identifiers = [{content["transient"]["display_id"] for _, content in cell} for cell in cells]
    assert [len(names) for names in identifiers] == [1, 1]
    assert identifiers[0] != identifiers[1]


def test_lines_of_a_later_cell_come_without_the_outcome_of_the_run(kernel):
    kernel.run(
        "three = tn.Study(space=tn.SearchSpace(x=tn.Float(1, 2)), trainer=fit, searcher=tn.TPE())\nthree.run(trials=20)"
    )
    *_, (_, last) = kernel.run("adjusted = three.adjusted()")
    assert "widen it to" in last["data"]["text/html"]
    assert "20 of 20 trials" not in last["data"]["text/html"]


def test_lines_before_a_run_and_after_it_are_in_its_display(kernel, tmp_path):
    kernel.run(f"kept = study(folder={str(tmp_path)!r})\nkept.run(trials=2)")
    outputs = [content for _, content in kernel.run("kept.run(trials=3)")]
    assert len({content["transient"]["display_id"] for content in outputs}) == 1
    assert "resuming after 2 ended trials" in outputs[-1]["data"]["text/html"]
    assert "3 of 3 trials" in outputs[-1]["data"]["text/plain"]


def test_a_study_is_shown_as_a_fragment(kernel):
    ((kind, content),) = kernel.run("one")
    assert kind == "execute_result"
    assert "Study in memory: 9 of 9 trials ended" in content["data"]["text/html"]


def test_an_interrupted_cell_ends_in_one_line_and_the_next_one_goes_on(kernel):
    outputs = kernel.run(
        "def stop(study, trial):\n"
        "    if trial.number == 2 and trial.epochs == 1 and not trial.ended:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "two = study(callbacks=[stop])\n"
        "two.run(trials=4)\n"
        "print('not reached')"
    )
    ((_, error),) = (output for output in outputs if output[0] == "error")
    assert error["traceback"] == [
        "KeyboardInterrupt: the epoch was finished; run the cell again and it goes on from here"
    ]
    assert [content["text"] for kind, content in outputs if kind == "stream"] == [
        "finishing the epoch; interrupt again to leave now\n"
    ]
    shown = [content["data"]["text/html"] for kind, content in outputs if kind == "update_display_data"]
    assert "interrupted; run it again and it goes on from here" in shown[-1]
    *_, (_, last) = kernel.run("two.callbacks.clear()\ntwo.run(trials=4)")
    assert "4 DONE" in last["data"]["text/html"]


def test_an_interrupt_in_the_middle_of_an_epoch_names_the_line(kernel):
    outputs = kernel.run("def hang(study, trial):\n    raise KeyboardInterrupt\nstudy(callbacks=[hang]).run(trials=1)")
    ((_, error),) = (output for output in outputs if output[0] == "error")
    assert error["traceback"] == ["KeyboardInterrupt in line 2 of hang"]
