"""The first Ctrl-C or SIGTERM finishes the epoch; a second one leaves an epoch that hangs, and nothing is lost."""

import os
import signal
import threading
import time
import traceback

import pytest

import tuneflow as tn

ENDS = {signal.SIGTERM: SystemExit, signal.SIGINT: KeyboardInterrupt}
hanging = threading.Event()


@tn.loop(epochs=3)
def fit(config, run):
    numbers = {"loss": config["x"]}
    for epoch in run.epochs(numbers=numbers):
        while epoch == 2 and hanging.is_set():
            time.sleep(0.001)
        numbers["loss"] /= 2
        yield {"loss": numbers["loss"]}


def study(folder, **settings):
    return tn.Study(
        space=tn.SearchSpace(x=tn.Float(0, 1)), trainer=fit, folder=folder, progress=False, seed=3, **settings
    )


def send(*numbers):
    """Send signals to this process, one after the other, while it is busy."""
    for pause, number in enumerate(numbers, 1):
        threading.Timer(0.2 * pause, os.kill, (os.getpid(), number)).start()


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("number", ENDS, ids=["SIGTERM", "Ctrl-C"])
def test_the_second_signal_leaves_an_epoch_that_hangs_and_the_study_goes_on_exactly(tmp_path, number, lanes, capfd):
    runtime = tn.Runtime("cpu", threads=1, lanes=lanes)
    study(tmp_path / "hung", runtime=runtime).run(epochs=1)
    hanging.set()
    send(number, number)
    with pytest.raises(ENDS[number]) as ended:
        study(tmp_path / "hung", runtime=runtime).run(trials=2)
    hanging.clear()
    assert number == signal.SIGINT or ended.value.code == 128 + signal.SIGTERM
    assert "again to leave now" in capfd.readouterr().err
    again, whole = study(tmp_path / "hung", runtime=runtime), study(tmp_path / "whole", runtime=runtime)
    assert {trial.status for trial in again.trials} == {"PAUSED"}
    for each in (again, whole):
        each.run(trials=2)
    assert [(t.config, t.metrics, t.epochs) for t in again.trials] == [
        (t.config, t.metrics, t.epochs) for t in whole.trials
    ]


def test_the_first_signal_finishes_the_epoch(tmp_path):
    sent = study(tmp_path, callbacks=[lambda study, trial: os.kill(os.getpid(), signal.SIGTERM)])
    with pytest.raises(SystemExit):
        sent.run(trials=2)
    assert [(t.status, t.epochs) for t in sent.trials] == [("PAUSED", 1)]


@pytest.mark.parametrize("way", ["run", "minimize"])
def test_the_first_ctrl_c_raises_a_plain_keyboard_interrupt_with_a_short_traceback(tmp_path, way):
    def interrupt(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)
        return 0.0

    one = study(tmp_path, callbacks=[interrupt])
    ways = {"run": lambda: one.run(trials=2), "minimize": lambda: tn.minimize(interrupt, tn.SearchSpace(), trials=2)}
    with pytest.raises(KeyboardInterrupt, match="the epoch was finished") as interrupted:
        ways[way]()
    assert type(interrupted.value) is KeyboardInterrupt  # by which Python ends with the status of an interrupt
    assert len(traceback.extract_tb(interrupted.tb)) == 3  # of this function, the lambda, and the one called
    assert interrupted.value.__suppress_context__


def test_the_traceback_is_whole_where_an_interrupt_ends_something_in_its_middle(tmp_path):
    def hang(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as interrupted:
        study(tmp_path, callbacks=[hang]).run(trials=2)
    assert traceback.extract_tb(interrupted.tb)[-1].name == "hang"
