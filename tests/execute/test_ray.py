"""A Ray cluster trains the trials that inline trains, whatever is killed; a real one, started here."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.worker_training import (
    EPOCHS,
    ONE,
    SPACE,
    TENSORS,
    TRAINED,
    UNLOADABLE,
    KeepsALock,
    Locked,
    bowl,
    finish,
    inline_metrics,
    misfortune,
    net,
    of_trial,
    study,
    table,
    train,
    trainer,
)

ray = pytest.importorskip("ray", reason="Ray is not installed")

from ray.cluster_utils import Cluster  # noqa: E402

from tests.helpers.global_generators import generators_untouched  # noqa: E402
from tests.helpers.lasting_actors import LastingActors  # noqa: E402
from tuneflow.errors import StudyError  # noqa: E402
from tuneflow.execute.inline import InlineExecutor  # noqa: E402
from tuneflow.execute.ray import pickling as cloud  # noqa: E402
from tuneflow.execute.ray.cluster import workers_that_fit  # noqa: E402
from tuneflow.execute.ray.executor import RayExecutor  # noqa: E402
from tuneflow.history.trial import Slice  # noqa: E402
from tuneflow.runtime import ray_runtime as rayruntime  # noqa: E402
from tuneflow.testing import check_executor  # noqa: E402
from tuneflow.train.function_trainer import Function  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),  # files that start a cluster run one after the other: it takes the whole machine
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # Ray leaves files to the collector
]

PATH = os.pathsep.join([str(Path(tn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])


@pytest.fixture(scope="module")
def cluster():
    """A head of two CPUs, to which this process is connected."""
    noticed = {"health_check_period_ms": 500, "health_check_timeout_ms": 2000, "health_check_initial_delay_ms": 500}
    head = {"num_cpus": 2, "include_dashboard": False, "_system_config": noticed}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", PATH)
        cluster = Cluster(initialize_head=True, head_node_args=head)
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def runtime():
    return tn.RayRuntime()


@pytest.fixture(scope="module")
def pool(cluster, runtime):
    pool = LastingActors(runtime)
    yield pool
    pool.end()


@pytest.fixture
def shared(pool):
    assert pool.busy == 0
    return tn.Runtime("cpu", threads=1, workers=2, executor=lambda runtime: pool)


# The same trials as inline.


def test_the_ray_executor_passes(pool):
    check_executor(lambda: pool, ONE)


@pytest.mark.parametrize("name", TRAINED)
def test_a_cluster_trains_the_trials_that_inline_trains_to_the_last_bit(shared, name):
    ours, theirs = (study(runtime, **TRAINED[name]) for runtime in (shared, ONE))
    with generators_untouched():
        ours.run(trials=4)
    theirs.run(trials=4)
    assert table(ours) == table(theirs)
    one, other = (made.best.model().state_dict() for made in (ours, theirs))
    assert all(torch.equal(one[key], other[key]) for key in other)


def test_a_plain_function_is_minimized_as_inline(shared):
    space = tn.SearchSpace(x=tn.Float(-5, 5), y=tn.Float(-5, 5))
    found = [tn.minimize(bowl, space, trials=10, runtime=runtime) for runtime in (shared, ONE)]
    assert found[0].number == found[1].number
    assert found[0].metrics == found[1].metrics


def test_lambdas_and_what_is_defined_inside_a_function_travel_along(shared):
    scale = torch.tensor(2.0)

    class Doubled(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1)) * scale

    @tn.loop(epochs=2)
    def inside(config, run):
        for _ in run.epochs():
            yield {"loss": (torch.rand(()) * scale).item() * config["lr"]}

    made = {
        "trainer": {"trainer": trainer(loss=lambda o, t: nn.functional.cross_entropy(o, t) * scale)},
        "loop": {"trainer": inside, "space": tn.SearchSpace(lr=tn.Float(0, 1))},
    }
    made["trainer"] |= {"model": tn.Model(partial(Doubled, 12, 3)), "space": tn.SearchSpace(optimizer=LR)}
    for settings in made.values():
        ours, theirs = (study(runtime, **settings) for runtime in (shared, ONE))
        for each in (ours, theirs):
            each.run(trials=2)
        assert table(ours) == table(theirs)


LR = {"lr": tn.Float(1e-3, 0.3, log=True)}


@tn.loop(epochs=6)
def level(config, run):
    for _ in run.epochs():
        time.sleep(0.01)
        yield {"loss": config["x"] + 0.01 * torch.rand(()).item()}


@pytest.mark.parametrize("scheduler", [tn.Halving(2), tn.Median(trials=2)], ids=repr)
def test_under_a_scheduler_that_looks_at_scores_a_trial_is_the_same_as_far_as_it_goes(shared, scheduler):
    space = tn.SearchSpace(x=tn.Float(0, 1))
    made = [study(runtime, space, trainer=level, scheduler=scheduler) for runtime in (shared, ONE)]
    for each in made:
        each.run(trials=10)
    assert "STOPPED" in {t.status for t in made[0].trials}
    for (config, _, reports), (wanted, _, expected) in zip(*map(table, made), strict=True):
        shorter = min(len(reports), len(expected))
        assert config == wanted
        assert reports[:shorter] == expected[:shorter]


def test_a_stopped_trial_is_heard_of_no_more_and_its_actor_takes_the_next(pool):
    for number in (0, 1):
        train(pool, number, lr=0.1 + number)
    seen = []
    while not seen:
        seen = pool.wait()
    pool.stop(0)
    pool.stop(1)
    assert pool.busy == 0
    for number in (2, 3):
        train(pool, number, lr=0.1)
    events = finish(pool)
    assert {event.trial for event in events} == {2, 3}
    assert all(of_trial(events, number)[0] == inline_metrics(lr=0.1) for number in (2, 3))


def test_more_slices_than_the_cluster_carries_are_refused(pool):
    for number in (0, 1):
        train(pool, number)
    assert pool.free == 0
    with pytest.raises(RuntimeError, match="all 2 workers have a slice"):
        train(pool, 2)
    assert len(finish(pool)) == 2 * (EPOCHS + 1)


# What goes wrong in a worker.


@tn.loop(epochs=8)
def slowly(config, run):
    """Leaves the id of its process in a folder, and trains long enough to be killed.

    It has momentum without torch.optim, which takes seconds to import in every process that comes after a kill.
    """
    weight, speed = run.place(torch.zeros(3)), run.place(torch.zeros(3))
    for epoch in run.epochs(weight=weight, speed=speed):
        if "folder" in config:
            (Path(config["folder"]) / f"{config['lr']}-{epoch}").write_text(str(os.getpid()))
        speed.mul_(0.9).add_(weight - torch.randn(3))
        weight.sub_(config.get("lr", 0.1) * speed)
        if os.getpid() != config.get("driver", os.getpid()):
            time.sleep(0.2)  # so the report before this one has left the process
        if epoch == config.get("epoch"):
            misfortune(**config)
        yield {"loss": weight.square().sum()}


def slow_study(runtime, folder, callbacks=()):
    fixed = {"folder": tn.Constant(str(folder)), "driver": tn.Constant(os.getpid())}
    return study(runtime, tn.SearchSpace(lr=tn.Float(0.01, 0.2), **fixed), trainer=slowly, callbacks=callbacks)


def test_a_worker_killed_in_a_slice_leaves_inlines_trials(shared, tmp_path, caplog):
    killed = []

    def kill(study, trial):
        if trial.number == 1 and trial.epochs == 2 and not killed:
            file = tmp_path / f"{trial.config['lr']}-2"
            killed.append(int(file.read_text()))
            os.kill(killed[0], signal.SIGKILL)

    ours, theirs = slow_study(shared, tmp_path, [kill]), slow_study(ONE, tmp_path)
    for each in (ours, theirs):
        each.run(trials=3)
    assert killed
    assert killed[0] != os.getpid()
    assert "trial 1: worker process was killed, or crashed" in caplog.text
    assert table(ours) == table(theirs)


def test_a_trial_that_kills_every_worker_fails_and_the_others_go_on(shared):
    # Not the first one: the check of a loop trains trial 0 in this process.
    space = tn.SearchSpace(kind="kill", epoch=tn.Choice([9, 2, 10]), driver=os.getpid())
    made = study(shared, space, trainer=slowly, searcher=tn.Grid(3))
    made.run()
    assert [t.status for t in made.trials] == ["DONE", "FAILED", "DONE"]
    failed = made.trials[1]
    assert failed.epochs == 1
    assert failed.reason == (
        "two worker processes died in epoch 2; the last was killed, or crashed (is there enough memory?)"
    )


def test_a_worker_that_hangs_is_killed_after_the_timeout(pool, monkeypatch, tmp_path):
    monkeypatch.setattr(pool, "timeout", 3.0)
    inline, config = InlineExecutor(ONE), {"kind": "hang", "epoch": 2, "marker": str(tmp_path / "hung")}
    pool.submit(Slice(0, 0, 8), slowly, tn.types.Job(None, config, ONE), None)
    metrics, last = of_trial(finish(pool), 0)
    assert (tmp_path / "hung").exists()
    assert last.status == "DONE"
    inline.submit(Slice(0, 0, 8), slowly, tn.types.Job(None, {}, ONE), None)
    assert metrics == of_trial(finish(inline), 0)[0]


def test_an_exception_comes_back_with_type_message_and_traceback(pool):
    train(pool, 0, kind="error", epoch=2)
    metrics, last = of_trial(finish(pool), 0)
    assert len(metrics) == 1
    assert (last.status, last.reason) == ("FAILED", "FloatingPointError: made up")
    assert "in misfortune" in last.detail


def test_a_state_that_cannot_be_sent_back_fails_its_trial(pool):
    pool.submit(Slice(0, 0, 2), KeepsALock(), tn.types.Job(None, {}, ONE), None)
    (last,) = finish(pool)
    assert last.status == "FAILED"
    assert "lock" in last.reason


def test_what_cannot_be_loaded_in_a_worker_is_said_at_once_and_with_its_traceback(shared):
    made = study(shared, tn.SearchSpace(x=tn.Choice(UNLOADABLE)), trainer=Function(partial(bowl, y=0)))
    with pytest.raises(StudyError, match=r"cannot load .* ImportError: no such thing here(.|\n)*__setstate__"):
        made.run(trials=3)


# What cannot be sent.

LOCK = threading.Lock()


def locking(output, target):
    with LOCK:
        return nn.functional.cross_entropy(output, target)


def local():
    return lambda output, target: locking(output, target) if LOCK else held


held = 0


def waits_for(lock):
    return lambda output, target: lock


CANNOT = {
    r"Locked\.source\['cache'\]\[0\] holds a _thread.lock, .* leave it out in __getstate__": Locked,
    r"Trainer\.loss: lock holds a _thread.lock, which cannot be sent": lambda: trainer(loss=waits_for(LOCK)),
}


@pytest.mark.parametrize("said", CANNOT)
def test_what_cannot_be_sent_is_refused_by_name(pool, said):
    with pytest.raises(TypeError, match=said):
        pool.submit(Slice(0, 0, 1), CANNOT[said](), tn.types.Job(tn.Model(net), {}, ONE), None)
    assert pool.busy == 0


def test_a_configuration_that_cannot_be_sent_is_refused_by_name():
    with pytest.raises(TypeError, match=r"configuration\['model'\]\['act'\] holds a _thread.lock"):
        cloud.CLOUD.pickled_job(tn.types.Job(None, {"model": {"act": LOCK}}, ONE))


def test_tensors_arrive_as_they_were():
    came = cloud.pack(TENSORS).value()
    for name, tensor in TENSORS.items():
        torch.testing.assert_close(came[name], tensor, rtol=0, atol=0, equal_nan=True)
        assert type(came[name]) is type(tensor)
    came["large"].add_(1)
    assert not torch.equal(came["large"], TENSORS["large"])


# Clusters.


def test_a_request_that_no_node_can_meet_says_what_there_is(cluster):
    made = study(tn.RayRuntime(cpus=64), SPACE, **TRAINED["sgd"])
    with pytest.raises(StudyError, match=r"needs 64 CPU and 0 GPU on one node, .* has 1 node \(2 CPU and 0 GPU\)"):
        made.run(trials=1)
    assert len(made.trials) == 0


@pytest.fixture(scope="module")
def node(cluster):
    """A second node, which says that it has a GPU."""
    return cluster.add_node(num_cpus=1, num_gpus=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there the GPU would be found")
def test_a_node_that_comes_later_is_used_and_one_without_the_gpu_that_it_said_is_named(cluster, request):
    executor = RayExecutor(tn.RayRuntime(gpus=0.25, cpus=0.25))
    with pytest.raises(StudyError, match=r"0\.25 GPU on one node"):
        executor.free  # noqa: B018
    request.getfixturevalue("node")
    assert free_soon(executor) == 4
    train(executor, 0)
    with pytest.raises(StudyError, match=r'a worker cannot start: ValueError: .*device "cuda" is not there'):
        finish(executor)
    executor.close()


def free_soon(executor, seconds=20):
    """How many slices it takes, as soon as it takes any."""
    until = time.monotonic() + seconds
    while True:
        try:
            return executor.free
        except StudyError:
            assert time.monotonic() < until
            time.sleep(0.2)


def test_a_node_is_lost_and_its_trials_go_on_elsewhere(cluster, node, shared, tmp_path, caplog):
    lost = []

    def lose(study, trial):
        running = [t.epochs for t in study.trials if t.status == "RUNNING"]
        if not lost and len(running) == 3 and min(running) >= 1:
            lost.append(node)
            cluster.remove_node(node, allow_graceful=False)

    ours, theirs = slow_study(shared, tmp_path, [lose]), slow_study(ONE, tmp_path)
    for each in (ours, theirs):
        each.run(trials=16)  # so many that the third actor starts in time on a busy machine too
    assert lost
    assert "continues in another" in caplog.text
    assert table(ours) == table(theirs)


SCRIPT = """
import sys, threading
import torch, tuneflow as tn

class Net(torch.nn.Linear):
    pass

generator = torch.Generator().manual_seed(0)
data = tn.Data(torch.rand(64, 6, generator=generator), torch.randint(3, (64,), generator=generator))
address = sys.argv[1] if len(sys.argv) > 1 else None
tables = []
runtimes = tn.RayRuntime(address, workers=1, precision="bf16"), tn.Runtime("cpu", threads=1, precision="bf16")
for runtime in runtimes:
    trainer = tn.Trainer(data, data, loss=torch.nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=2)
    study = tn.Study(model=tn.Model(lambda: Net(6, 3)), trainer=trainer,
                     space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 1.0)}), runtime=runtime, progress=False)
    study.run(trials=3)
    tables.append([(t.config, t.status, t.metrics) for t in study.trials])
import ray, signal
assert not ray.is_initialized()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
print(tables[0] == tables[1], len(tables[0]))
"""


def run_script(folder, *arguments, **environment):
    """A script without a main guard, with its classes and lambdas in it."""
    (folder / "script.py").write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, "script.py", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PATH, **environment},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_a_cluster_that_was_there_is_used_and_left_running(cluster, pool, tmp_path):
    pool.end()
    assert run_script(tmp_path, "auto", RAY_ADDRESS=cluster.address) == "True 3\n"
    assert sum(node["Alive"] for node in ray.nodes()) >= 1


def test_a_cluster_of_its_own_is_started_and_ended(tmp_path):
    assert run_script(tmp_path, HOME=str(tmp_path)) == "True 3\n"  # Ray leaves a token in ~/.ray


def test_a_cluster_that_is_not_there_is_said_at_once(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{free.getsockname()[1]}"
        for given in (address, f"ray://{address}"):
            with pytest.raises(StudyError, match=rf"no Ray cluster is at '{given}' .*`ray start --head` starts one"):
                RayExecutor(tn.RayRuntime(given)).free  # noqa: B018


# The runtime.


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"address": "somewhere"}, 'address needs to be "auto", "host:port" or "ray://host:port", got \'somewhere\''),
        ({"cpus": 0}, "cpus needs to be a number > 0, got 0"),
        ({"cpus": True}, "cpus needs to be a number > 0, got True"),
        ({"cpus": 1.5}, "cpus above 1 needs to be whole, got 1.5; try cpus=2"),
        ({"gpus": -1}, "gpus needs to be a number > 0, got -1"),
        ({"workers": 0}, "workers needs to be a whole number >= 1, got 0; leave it out for as many"),
        ({"threads": 1.5}, "threads needs to be a whole number >= 1, got 1.5; leave it out for one for each cpu"),
        ({"timeout": 0}, "timeout needs to be a number of seconds > 0, got 0"),
        ({"device": "cuda"}, 'device="cuda" needs GPUs for its workers; try gpus=1'),
        ({"device": "cpu", "gpus": 0.5}, 'device="cpu" would leave gpus=0.5 unused'),
        ({"device": "cuda:1", "gpus": 1}, 'device needs to be "auto", "cpu" or "cuda", got \'cuda:1\''),
    ],
    ids=str,
)
def test_an_argument_that_does_not_fit_is_refused(wrong, said):
    with pytest.raises(ValueError) as refused:
        tn.RayRuntime(**wrong)
    assert str(refused.value).startswith(f"RayRuntime: {said}")


def test_a_runtime_says_what_its_workers_are():
    assert repr(tn.RayRuntime()) == 'RayRuntime(device="cpu", cpus=1, gpus=0, threads=1)'
    full = tn.RayRuntime("10.0.0.1:6379", "cuda", 4, 0.5, 8, threads=2, timeout=60, precision="bf16")
    assert repr(full) == (
        'RayRuntime("10.0.0.1:6379", device="cuda", cpus=4, gpus=0.5, workers=8, threads=2, timeout=60,'
        ' precision="bf16")'
    )
    assert tn.RayRuntime(cpus=4).threads == 4
    assert tn.RayRuntime(cpus=0.5).threads == 1
    assert tn.RayRuntime().describe() == ONE.describe()
    assert full.describe() == {**tn.Runtime("cpu", threads=2, precision="bf16").describe(), "device": "cuda"}


def test_without_ray_the_way_to_get_it_is_said(monkeypatch):
    monkeypatch.setattr(rayruntime, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install ray$"):
        tn.RayRuntime()


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "fits"),
    [
        ({"CPU": 4}, 1, 0, 4),
        ({"CPU": 4}, 3, 0, 1),
        ({"CPU": 3}, 0.1, 0, 30),
        ({"CPU": 0.3}, 0.1, 0, 3),
        ({"CPU": 4}, 1, 1, 0),
        ({"CPU": 16, "GPU": 2}, 1, 0.25, 8),
        ({"CPU": 16, "GPU": 2}, 1, 0.4, 4),
        ({"CPU": 16, "GPU": 3}, 1, 2, 1),
        ({}, 1, 0, 0),
    ],
)
def test_a_node_carries_as_many_workers_as_fit(node, cpus, gpus, fits):
    assert workers_that_fit(node, cpus, gpus) == fits
