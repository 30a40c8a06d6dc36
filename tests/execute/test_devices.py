"""Worker processes are spread over several devices; one that is lost costs its slices, and the run goes on."""

import os
import time

import pytest
import torch

import tuneflow as tn
from tests.helpers.worker_training import ONE, finish, fit, of_trial, train
from tuneflow.errors import StudyError
from tuneflow.execute import inline
from tuneflow.execute.in_process import in_process
from tuneflow.execute.lanes import executor as lanes_executor
from tuneflow.execute.processes import placement
from tuneflow.execute.processes.executor import ProcessExecutor
from tuneflow.execute.processes.placement import Placement
from tuneflow.execute.workers import sendable, worker
from tuneflow.execute.workers.assignment import STARTS
from tuneflow.execute.workers.messages import Command, EngineUpdate, Task
from tuneflow.execute.workers.pickling import pack
from tuneflow.history.trial import Slice
from tuneflow.runtime.devices import DeviceLost, shown_alone

GPUS = [torch.device("cuda", index) for index in range(3)]


@pytest.fixture
def three_gpus(monkeypatch):
    """A stand-in for a machine with three GPUs, as far as this process counts them."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "stand-in")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


class OnCPU(tn.Runtime):
    """Its workers are shown a GPU each and train on the CPU; those of `broken` GPUs find no device."""

    broken = ""

    def of_a_worker(self):
        number = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
        return {**super().of_a_worker(), "device": "cuda:9" if number in self.broken else "cpu"}


@tn.loop(epochs=2)
def seen(config, run):
    """Reports the GPU that its process sees; on that of `bad` it fails as after an assertion of a kernel."""
    for _ in run.epochs():
        number = os.environ["CUDA_VISIBLE_DEVICES"]
        if number == config.get("bad"):
            worker.check_responds = lost
            raise RuntimeError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA")
        yield {"gpu": float(number)}


def lost(device):
    raise DeviceLost("it does not respond")


# Which devices.


def test_workers_take_all_gpus_in_turn_unless_devices_chooses(three_gpus):
    assert tn.Runtime("cuda", workers=4).devices == tuple(GPUS)
    assert tn.Runtime(workers=2).devices == tuple(GPUS[:2])
    assert tn.Runtime("cuda:1", workers=4).devices == (GPUS[1],)
    assert tn.Runtime("cuda").devices == (torch.device("cuda"),)
    assert tn.Runtime().devices == (GPUS[0],)
    assert tn.Runtime("cpu", workers=4).devices == (torch.device("cpu"),)
    for chosen in (["cuda:2", "cuda:0"], [2, 0], (torch.device("cuda:2"), 0)):
        runtime = tn.Runtime("cuda", workers=2, devices=chosen)
        assert (runtime.devices, runtime.device) == ((GPUS[2], GPUS[0]), GPUS[2])
        assert repr(runtime) == 'Runtime("cuda", workers=2, devices=[2, 0])'
    assert tn.Runtime(devices=[1]).device == GPUS[1]


def test_several_devices_change_no_label_of_a_score(three_gpus):
    one, several = tn.Runtime("cuda:1", threads=1), tn.Runtime("cuda", threads=1, workers=3)
    assert one.describe() == several.describe()
    assert several.of_a_worker()["device"] == "cuda:0"
    assert one.of_a_worker()["device"] == "cuda:1"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"devices": "all", "workers": 2}, r"needs to be a list .* got 'all'; leave it out for all"),
        ({"devices": [], "workers": 2}, "needs to be a list"),
        ({"devices": [0, 5], "workers": 2}, '"cuda:5" is not there. Here: cpu, cuda:2, cuda:1, cuda:0'),
        ({"devices": [0, "cuda:0"], "workers": 2}, "each device once, with its number, got cuda:0, cuda:0"),
        ({"devices": ["cuda", "cuda:1"], "workers": 2}, "each device once, with its number"),
        ({"devices": ["cpu", "cuda:0"], "workers": 2}, "device needs to be the kind of all devices, got 'auto'"),
        ({"devices": [0, 1], "device": "cpu", "workers": 2}, '"cpu:0" is not there'),
        ({"devices": [0, 1]}, "a process trains on one device, got 2 devices for 1 worker; set workers=2"),
        ({"devices": [0, 1, 2], "workers": 2}, "3 devices for 2 workers; set workers=3"),
        ({"devices": ["cuda:0"], "device": "cuda:1"}, "the kind of all devices, got 'cuda:1' with cuda:0"),
    ],
)
def test_devices_that_do_not_fit_are_refused(settings, said, three_gpus):
    with pytest.raises(ValueError, match=said):
        tn.Runtime(**settings)


@pytest.mark.parametrize(("before", "shown"), [(None, "2"), ("", "2"), ("5, 6,7", "7"), ("GPU-a,GPU-b,GPU-c", "GPU-c")])
def test_a_process_is_shown_one_of_the_gpus_that_its_parent_sees(before, shown, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with shown_alone(GPUS[2]):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == shown
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_devices_of_different_models_are_warned_of(three_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100" if device.index else "T4")
    with pytest.warns(UserWarning, match="different models, T4, A100: the last digits"):
        ProcessExecutor(tn.Runtime("cuda", workers=3))


# Where processes are placed.


def test_new_processes_go_to_the_device_that_has_fewest():
    places = Placement(GPUS, 5)
    taken = []
    for _ in range(places.room):
        taken.append(places.next(taken))
    assert taken == [*GPUS, *GPUS[:2]]
    assert places.next([*GPUS[1:], *GPUS[:2]]) == GPUS[0]
    assert Placement(GPUS[:1], 2).alone(GPUS[0]) is None


def test_a_device_on_which_processes_end_in_a_row_is_left_out_with_its_share():
    places = Placement(GPUS[:2], 3)
    for _ in range(STARTS - 1):
        places.lost(GPUS[0], time.monotonic(), "lost it")
    places.works(GPUS[0])
    for _ in range(STARTS - 1):
        places.lost(GPUS[0], time.monotonic(), "lost it")
    assert places.room == 3
    with pytest.warns(UserWarning, match="3 worker processes in a row ended on cuda:0, the last lost it; .* on cuda:1"):
        places.lost(GPUS[0], time.monotonic(), "lost it")
    assert places.room == 1
    assert places.next([]) == GPUS[1]
    for _ in range(STARTS - 1):
        places.lost(GPUS[1], time.monotonic(), "lost it")
    with pytest.raises(StudyError, match="no device is left of cuda:0, cuda:1: 3 worker processes"):
        places.lost(GPUS[1], time.monotonic(), "lost it")


def test_processes_that_one_fault_ends_together_count_once():
    places, started = Placement(GPUS[:2], 8), time.monotonic()
    for _ in range(4):
        places.lost(GPUS[0], started, "lost it")
    assert places.room == 8


# What happens in a process.


def test_a_failure_after_which_the_device_does_not_respond_ends_its_worker(monkeypatch):
    monkeypatch.setattr(worker, "check_responds", lost)
    with pytest.raises(DeviceLost) as raised:
        failing().train(pack)
    assert raised.value.reason == "FloatingPointError: made up"
    assert "Traceback" in raised.value.detail


def test_a_failure_on_a_device_that_responds_is_its_trials_own(monkeypatch):
    looked = []
    monkeypatch.setattr(worker, "check_responds", looked.append)
    reply, _ = failing().train(pack)
    assert reply.events[0].status == "FAILED"
    assert looked == [torch.device("cpu")]


def failing():
    """A worker that has a slice which fails in its first epoch."""
    made = worker.Worker(ONE)
    job = sendable.SPAWN.pickled_job(tn.types.Job(None, {"kind": "error", "epoch": 1}, ONE))
    command = Command([Task(0, True, Slice(0, 0, 1), job, None)], [], EngineUpdate())
    assert made.take(command, lambda: (fit, None)) is None
    return made


def trained(executor, *configs):
    """The last report, or the reason of the failure, of a trial of `seen` for each configuration."""
    for number, config in enumerate(configs):
        executor.submit(Slice(number, 0, 2), seen, tn.types.Job(None, config, ONE), None)
    events = finish(executor)
    ends = [of_trial(events, number) for number in range(len(configs))]
    return [last.reason or metrics[-1]["gpu"] for metrics, last in ends]


@pytest.fixture
def executor(three_gpus):
    runtime = OnCPU("cuda", threads=1, workers=2, devices=[1, 2])
    executor = ProcessExecutor(runtime)
    executor.runtime = runtime
    yield executor
    executor.close()


def test_a_slice_whose_device_fails_goes_on_on_another_and_the_device_is_tried_again(executor):
    assert trained(executor, {"bad": "2"}, {"bad": "2"}) == [1.0, 1.0]
    assert sorted(trained(executor, {}, {})) == [1.0, 2.0]


def test_a_device_without_use_is_left_out_and_the_last_one_ends_the_run(executor, monkeypatch):
    monkeypatch.setattr(placement, "STARTS", 1)
    executor.runtime.broken = "2"
    with pytest.warns(UserWarning, match=r"on cuda:2, the last lost cuda:2 \(ValueError: .* without cuda:2, on cuda:1"):
        assert trained(executor, {}, {}) == [1.0, 1.0]
    assert executor.free == 1
    with pytest.raises(StudyError, match=r"no device is left of cuda:1, cuda:2: .* device-side assert triggered"):
        trained(executor, {"bad": "1"})


@pytest.mark.parametrize(("lanes", "module"), [(1, inline), (4, lanes_executor)])
def test_without_workers_a_lost_device_fails_its_trial_and_then_ends_the_run(lanes, module, monkeypatch):
    monkeypatch.setattr(module, "check_responds", lost)
    executor = in_process(tn.Runtime("cpu", threads=1, lanes=lanes))
    train(executor, 0, kind="error", epoch=1)
    assert [event.status for event in finish(executor)] == ["FAILED"]
    with pytest.raises(StudyError, match=r"can no longer use its device \(it does not respond\); a new process may"):
        train(executor, 1)
