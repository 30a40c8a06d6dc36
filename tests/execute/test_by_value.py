"""Workers take functions and classes that no import finds: of a prompt, a notebook or a guard, lambdas, local ones."""

import functools
import os
import re
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.forked import output_of
from tests.helpers.worker_training import ONE, LastingProcesses, data, finish, study, table, trainer
from tuneflow.execute.workers import main_module, sendable
from tuneflow.execute.workers.pickling import loaded, pack
from tuneflow.history.trial import Slice
from tuneflow.train.function_trainer import Function
from tuneflow.train.protocol import TrainerProtocol

if os.name != "posix":
    pytest.skip("workers by spawn and files without names", allow_module_level=True)

PATH = os.pathsep.join([str(Path(tn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
LR = tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 0.3, log=True)})
HERE = tn.SearchSpace(lr=tn.Float(0.01, 0.2))


@pytest.fixture(scope="module")
def pool():
    pytest.importorskip("cloudpickle")
    pool = LastingProcesses(ONE, 1)
    yield pool
    pool.end()


@pytest.fixture
def shared(pool):
    return tn.Runtime("cpu", threads=1, workers=2, executor=lambda runtime: pool)


def local_loss():
    weight = torch.ones(3)
    return {"trainer": trainer(loss=lambda o, t: nn.functional.cross_entropy(o, t, weight))}


def local_class():
    class Scaled(nn.Linear):
        @functools.cached_property
        def scale(self):
            return 2

        def forward(self, x):
            return super().forward(x.flatten(1)) * self.scale

    return {"model": tn.Model(functools.partial(Scaled, 12, 3)), "trainer": trainer()}


def local_metric():
    Share = namedtuple("Share", "hits rows")

    @functools.cache
    def half():
        return Share(0.5, 1)

    @functools.singledispatch
    def shares(value):
        return value

    @shares.register
    def _(value: Share):
        return value.hits

    return {"trainer": trainer(metrics={"hits": lambda o, t: (o.argmax(1) == t).float().mean() * shares(half())})}


def local_dataset():
    rows = data(48, 3)

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 48

        def __getitem__(self, row):
            return rows.inputs[row], rows.targets[row]

    return {"trainer": trainer(Rows(), augment=lambda x: x + 0.01 * torch.rand_like(x))}


def local_trainer():
    class Halved(tn.Trainer):
        def loss_of(self, module, batch):
            return super().loss_of(module, batch) / 2

    return {
        "trainer": Halved(
            data(48, 0), data(48, 1), loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=2, batch_size=16
        )
    }


def local_loop():
    @tn.loop(epochs=2)
    def inside(config, run):
        for _ in run.epochs():
            yield {"loss": torch.rand(()).item() * config["lr"]}

    return {"trainer": inside, "space": HERE}


def local_choice():
    def act(x):
        return x.relu()

    def net(act=act, own=act):  # a function of the configuration is the one that the builder knows
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 3 if act is own else 4), nn.Linear(3 if act is own else 4, 3))

    choice = tn.Choice({"own": act, "other": lambda x: x})
    space = tn.SearchSpace(model={"act": choice}, optimizer={"lr": 0.1})
    return {"model": tn.Model(net), "trainer": trainer(epochs=1), "space": space, "searcher": tn.Grid(2)}


KINDS = [local_loss, local_class, local_metric, local_dataset, local_trainer, local_loop, local_choice]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_worker_trains_what_is_defined_inside_a_function_as_inline_does(kind, shared):
    settings = kind()
    if kind is not local_loop:
        settings = {"model": tn.Model(nn_of_twelve), "space": LR} | settings
    ours, theirs = (study(runtime, **settings) for runtime in (shared, ONE))
    for each in (ours, theirs):
        each.run(trials=2)
    assert [t.status for t in theirs.trials] == ["DONE"] * 2
    assert table(ours) == table(theirs)


def nn_of_twelve():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))


def test_classes_and_functions_are_the_same_in_every_job_of_a_worker(pool):
    class Mark:
        pass

    def twin(x):
        return x

    seen = []

    class Remembers(TrainerProtocol):
        """Reports if a configuration's class and function are those of the trainer, and of the trial before."""

        epochs = 1

        def init(self, job):
            return tn.types.TrainState(0, {})

        def advance(self, job, state, until):
            seen.append((job.config["function"], type(job.config["mark"])))
            same = set(seen) == {(twin, Mark)} and isinstance(job.config["mark"], Mark)
            yield tn.types.TrainState(1, {}), tn.types.Report(1, {"same": float(same), "jobs": float(len(seen))})

    teacher = Remembers()
    for number in range(2):
        job = tn.types.Job(None, {"function": twin, "mark": Mark()}, ONE)
        pool.submit(Slice(number, 0, 1), teacher, job, None)
        reported, _ = finish(pool)
        assert reported.report.metrics == {"same": 1.0, "jobs": number + 1.0}


# What is said.


LOST = {
    r"Trainer\.loss holds a lambda, which cannot .*; define it with def at the top": local_loss,
    r"Model\.builder\.func holds Scaled, which is defined inside local_class": local_class,
    r"Loop\.function holds inside, which is defined inside local_loop": local_loop,
    r"Function\.f holds a lambda": lambda: {"trainer": Function(lambda x: x)},
}


@pytest.mark.parametrize("said", LOST)
def test_without_cloudpickle_the_message_names_the_culprit_and_what_to_install(said, monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    settings = LOST[said]()
    with pytest.raises(TypeError, match=f"{said}.*, or install cloudpickle: python -m pip install cloudpickle$"):
        sendable.share(settings["trainer"], settings.get("model"))


def test_an_open_file_is_refused_by_name_and_not_sent_as_a_copy(tmp_path):
    pytest.importorskip("cloudpickle")
    with (tmp_path / "words").open("w+") as words, pytest.raises(TypeError, match=r"Function\.f: words holds a _io\."):
        sendable.share(Function(lambda x: words.read()), None)


def test_what_a_module_defines_travels_by_its_name():
    pytest.importorskip("cloudpickle")
    way = sendable.SPAWN.way_of([lambda: nn_of_twelve, nn_of_twelve], "list")
    assert way.by_value
    local, named = loaded(pack([local_loss, nn_of_twelve], pickler=way.pickler).body)
    assert named is nn_of_twelve
    assert local is local_loss
    assert not sendable.SPAWN.way_of(nn_of_twelve, "function").by_value


def test_a_loop_travels_with_all_its_settings():
    pytest.importorskip("cloudpickle")
    fit = local_loop()["trainer"]
    way = sendable.SPAWN.way_of(fit, "Loop")
    copy = loaded(pack(fit, pickler=way.pickler).body)
    assert copy is not fit
    assert vars(copy) == vars(fit)


# Where it is defined.

DEFINES = """
import functools, tuneflow as tn

SCALE = 3.0

class Own(tuple):
    pass

@functools.cache
def scaled(x):
    return x * SCALE

def value(x, how):
    return scaled(x) * isinstance(how, Own)
"""
RUNS = """
found = []
for workers in (1, 2):
    runtime = tn.Runtime("cpu", threads=1, workers=workers)
    space = tn.SearchSpace(x=tn.Float(0, 1), how=tn.Choice({"own": Own()}))
    best = tn.minimize(value, space, trials=3, searcher=tn.Sobol(), runtime=runtime, progress=False)
    found.append((best.number, best.metrics))
print(found[0] == found[1], found[0][1]["value"] > 0)
"""
UNDER_THE_GUARD = 'import os\nif __name__ == "__main__":\n' + "".join(
    f"    {line}\n" for line in f"{DEFINES}{RUNS}".splitlines()
)


def run_python(*command, **more):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=False, **more)


def test_workers_take_what_is_defined_at_standard_input(tmp_path):
    pytest.importorskip("cloudpickle")
    ran = run_python("-", input=f"{DEFINES}{RUNS}", cwd=tmp_path)
    assert (ran.stdout, ran.stderr) == ("True True\n", "")


def test_workers_take_what_a_script_defines_under_its_guard(tmp_path):
    pytest.importorskip("cloudpickle")
    (tmp_path / "guarded.py").write_text(UNDER_THE_GUARD)
    assert output_of(tmp_path / "guarded.py", cwd=tmp_path, PYTHONPATH=PATH) == "True True\n"


PAGE = Path(__file__).parents[2] / "docs" / "howto" / "workers.md"
KERNEL = """
import os
import nbformat
from nbclient import NotebookClient

cells = [nbformat.v4.new_code_cell(source) for source in {cells!r}]
notebook = nbformat.v4.new_notebook(cells=cells)
NotebookClient(notebook, timeout=120).execute(env={{**os.environ, "IPYTHONDIR": os.getcwd()}})
print(notebook.cells[-1].outputs[0].text, end="")
"""


def test_workers_take_what_a_notebook_defines_as_the_page_shows(tmp_path):
    for package in ("cloudpickle", "nbclient", "ipykernel"):
        pytest.importorskip(package)
    cells = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)[:1]
    (printed,) = re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(), re.M | re.S)[:1]
    (tmp_path / "client.py").write_text(KERNEL.format(cells=cells))
    home = {"HOME": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path), "PYTHONPATH": PATH}
    assert output_of(tmp_path / "client.py", cwd=tmp_path, **home) == printed


@pytest.mark.parametrize("name", ["notes.ipynb", "ipython", "gone.py", "<stdin>"])
def test_a_main_that_cannot_be_imported_is_hidden_from_new_processes_while_they_start(name, tmp_path, monkeypatch):
    path = tmp_path / name
    if name not in ("gone.py", "<stdin>"):
        path.write_text("x = 1")
    main = type(sys)("__main__")
    main.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert not main_module.is_imported()
    with main_module.hidden_unless_imported():
        assert not hasattr(main, "__file__")
    assert main.__file__ == str(path)


def test_a_script_is_imported_and_only_what_its_guard_defines_is_missed(tmp_path, monkeypatch):
    source = 'def top(): pass\nif __name__ == "__main__":\n    class Inner: pass\n    def top(): pass\n'
    (tmp_path / "script.py").write_text(source)
    main = type(sys)("__main__")
    main.__file__ = str(tmp_path / "script.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(compile(source, main.__file__, "exec"), vars(main))
    exec(compile("def prompted(): pass", "<stdin>", "exec"), vars(main))
    assert main_module.is_imported()
    assert [main_module.has(vars(main)[name]) for name in ("top", "Inner", "prompted")] == [True, False, False]
