"""Exported models give the model's outputs without its builder and without tuneflow, or are refused by name."""

import json
import zipfile
from typing import NamedTuple

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.forked import output_of
from tests.helpers.small_studies import TEST, make, net
from tuneflow.compress.converted import calibrated
from tuneflow.compress.operations import Convert
from tuneflow.heuristics.input_scaling import NormalizedModule, Normalizer
from tuneflow.nested import leaves
from tuneflow.study.exported import export_model
from tuneflow.train.spread import connect

ALONE = """
import sys, torch
for name in [name for name in sys.modules if name.split(".")[0] in ("tuneflow", "tests")]:
    del sys.modules[name]
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tuneflow":
            raise ImportError(name)
sys.meta_path.insert(0, Nothing())
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
saved = torch.load("rows.pt")
for program in (torch.export.load("model.pt2").module(), torch.jit.load("model.pt")):
    print([torch.equal(program(inputs), outputs) for inputs, outputs in saved])
"""


class Parts(nn.Module):
    """Takes two inputs by name: floating-point numbers and tokens."""

    def __init__(self):
        super().__init__()
        self.numbers, self.kinds = nn.Linear(3, 4), nn.Embedding(7, 4)

    def forward(self, numbers, kind):
        return self.numbers(numbers) + self.kinds(kind)


class Whole(Parts):
    """Takes them as one dict, and gives several outputs, one of which is not computed."""

    def forward(self, inputs):
        return {
            "sum": super().forward(**inputs),
            "parts": [self.numbers(inputs["numbers"]), inputs["kind"]],
            "no": None,
        }


class Rows(NamedTuple):
    numbers: torch.Tensor
    kind: torch.Tensor


class Mean(nn.Embedding):
    """The mean over a sequence of any length."""

    def forward(self, tokens):
        return super().forward(tokens).mean(1)


class Branches(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs) if inputs.sum() > 0 else super().forward(-inputs)


class FixedRows(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs).view(5, 3)


class Counts(nn.Linear):
    """Changes a buffer in every forward pass."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs):
        self.calls += 1
        return super().forward(inputs) + self.calls


class Noise(nn.Linear):
    def forward(self, inputs):
        return super().forward(inputs + torch.rand_like(inputs))


ROWS = {"numbers": torch.randn(5, 3), "kind": torch.arange(5)}
IMAGES = nn.Sequential(
    nn.Conv2d(1, 4, 3),
    nn.BatchNorm2d(4),
    nn.GroupNorm(2, 4),
    nn.GELU(),
    nn.Flatten(),
    nn.Dropout(0.5),
    nn.Linear(16, 2),
)


def spread(inputs):
    """A module that takes these by name, with the hook of the library."""
    module = Parts()
    connect(module, inputs)
    return module


CASES = {
    "images": (IMAGES, torch.randn(5, 1, 4, 4)),
    "a dict by name": (spread(ROWS), ROWS),
    "a tuple by position": (spread(tuple(ROWS.values())), tuple(ROWS.values())),
    "a named tuple": (spread(Rows(**ROWS)), Rows(**ROWS)),
    "bytes": (
        NormalizedModule(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), Normalizer(torch.ones(()), 2 * torch.ones(()))),
        torch.randint(256, (5, 1, 4, 4), dtype=torch.uint8),
    ),
    "attention": (nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), torch.randn(5, 3, 4)),
    "changed buffers": (Counts(3, 3), torch.randn(5, 3)),
    "one row": (nn.Linear(3, 1), torch.randn(1, 3)),
}


def as_taken(inputs):
    """A batch as the program takes it."""
    return dict(zip(ROWS, inputs, strict=True)) if isinstance(inputs, Rows) else inputs


def read(path):
    """The program in a file."""
    return torch.export.load(path).module() if path.suffix == ".pt2" else torch.jit.load(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("ending", [".pt2", ".pt"])
@pytest.mark.parametrize("case", CASES)
def test_a_program_gives_the_outputs_of_its_module(case, ending, tmp_path):
    module, inputs = CASES[case]
    module.eval()
    export_model(tmp_path / f"model{ending}", module, [inputs], {})
    with torch.no_grad():
        outputs = read(tmp_path / f"model{ending}")(as_taken(inputs))
        assert torch.allclose(outputs, module(inputs), rtol=0, atol=1e-6 if case == "attention" else 0)


def test_several_outputs_keep_their_containers(tmp_path):
    export_model(tmp_path / "model.pt2", module := Whole(), [ROWS], {})
    outputs = read(tmp_path / "model.pt2")(ROWS)
    assert [outputs.keys(), type(outputs["parts"]), outputs["no"]] == [{"sum", "parts", "no"}, list, None]
    assert all(map(torch.equal, leaves(outputs), leaves(module(ROWS))))


def test_sizes_that_differ_between_batches_are_free(tmp_path):
    batches = [torch.randint(9, (5, length)) for length in (4, 6)]
    export_model(tmp_path / "model.pt2", module := Mean(9, 4), batches, {})
    program = read(tmp_path / "model.pt2")
    with torch.no_grad():
        for shape in ((1, 3), (7, 11)):
            tokens = torch.randint(9, shape)
            assert torch.equal(program(tokens), module(tokens))


@pytest.mark.parametrize(
    ("ending", "module", "message"),
    [
        (".pt2", Branches(3, 3), "Could not guard on data-dependent expression.*use torch.where"),
        (".pt", Branches(3, 3), r"converting a tensor to a Python boolean, in test_export.py, line \d+"),
        (".pt2", FixedRows(3, 3), "its forward depends on the number of rows in a batch"),
        (".pt", FixedRows(3, 3), r"shape '\[5, 3\]' is invalid"),
        (".onnx", Noise(3, 3), "gives other outputs than the module for 1 of the training rows"),
        (".onnx", nn.Linear(3, 3).bfloat16(), r'float32 only, got a bf16 module: export\("model.pt2"\)'),
    ],
)
def test_what_would_be_another_function_is_refused(ending, module, message, tmp_path, capfd):
    (tmp_path / f"model{ending}").write_text("what was there")
    rows = torch.randn(5, 3, dtype=next(module.parameters()).dtype)
    with pytest.raises(tn.errors.StudyError, match=message) as refused:
        export_model(tmp_path / f"model{ending}", module, [rows], {})
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""
    assert [path.read_text() for path in tmp_path.iterdir()] == ["what was there"]


def test_a_scripted_module_is_sent_to_torchscript(tmp_path):
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        scripted = torch.jit.script(nn.Linear(3, 3))
    with pytest.raises(tn.errors.StudyError, match=r'as TorchScript only: export\("model.pt"\)'):
        export_model(tmp_path / "model.pt2", scripted, [torch.randn(2, 3)], {})
    export_model(tmp_path / "model.pt", scripted, [torch.randn(2, 3)], {})


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("precision", "ending"), [("bf16", ".pt2"), ("int8", ".pt")])
def test_a_converted_module_is_written_as_it_is_handed_over(precision, ending, tmp_path):
    images = torch.rand(8, 1, 4, 4)
    module, _ = calibrated(IMAGES.eval(), Convert(precision, True), [images])
    export_model(tmp_path / f"model{ending}", module, [images], {})
    assert torch.equal(read(tmp_path / f"model{ending}")(images), module(images))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_an_int8_module_with_padded_channels_is_written_and_keeps_its_shapes(tmp_path):
    images = torch.rand(8, 1, 4, 4)
    narrow = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 2))
    module, _ = calibrated(narrow.eval(), Convert("int8"), [images])
    shapes = [part.unpadded for part in module.modules() if hasattr(part, "unpadded")]
    export_model(tmp_path / "model.pt", module, [images], {})
    assert torch.equal(read(tmp_path / "model.pt")(images), module(images))
    assert [part.unpadded for part in module.modules() if hasattr(part, "unpadded")] == shapes != []


def test_an_int8_module_is_sent_to_torchscript(tmp_path):
    module, _ = calibrated(IMAGES.eval(), Convert("int8"), [torch.rand(8, 1, 4, 4)])
    with pytest.raises(tn.errors.StudyError, match=r'int8 module is written as TorchScript only: export\("model.pt"\)'):
        export_model(tmp_path / "model.pt2", module, [torch.rand(8, 1, 4, 4)], {})


def test_onnx_runs_elsewhere_with_named_inputs_and_any_batch(tmp_path):
    module, path = Whole(), tmp_path / "model.onnx"
    export_model(path, module, [ROWS], {"number": 3})
    session = onnxruntime.InferenceSession(path)
    assert [value.name for value in session.get_outputs()] == ["outputs_sum", "outputs_parts_0", "outputs_parts_1"]
    assert session.get_inputs()[0].shape == ["batch", 3]
    for count in (1, 4):
        rows = {key: value[:count] for key, value in ROWS.items()}
        outputs = session.run(None, {f"inputs_{key}": value.numpy() for key, value in rows.items()})
        assert torch.allclose(torch.from_numpy(outputs[0]), module(rows)["sum"], atol=1e-6)
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(facts["tuneflow.json"])["number"] == 3


def test_onnx_needs_its_packages(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install onnx onnxscript, or export"):
        export_model(tmp_path / "model.onnx", nn.Linear(3, 3), [torch.randn(2, 3)], {})


@pytest.fixture(scope="module")
def best():
    """The best of two small models, its normalizer inside."""
    study = make()
    study.run(trials=2)
    return study.best


def test_results_run_without_tuneflow(best, tmp_path):
    for ending in (".pt2", ".pt"):
        best.export(tmp_path / f"model{ending}")
    model = best.model()
    rows = [TEST.inputs[:count] for count in (1, 2, 60)]
    torch.save([(inputs, model(inputs).detach()) for inputs in rows], tmp_path / "rows.pt")
    (tmp_path / "alone.py").write_text(ALONE)
    assert output_of(tmp_path / "alone.py", cwd=tmp_path) == "[True, True, True]\n" * 2


def test_the_file_holds_facts_and_no_rows(best, tmp_path):
    best.export(tmp_path / "model.pt2")
    extra = {"tuneflow.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    facts = json.loads(extra["tuneflow.json"])
    assert facts["config"] == best.config
    assert facts["metrics"] == dict(best.metrics)
    assert facts["inputs"] == {"shape": ["batch", 1, 8, 8], "dtype": "float32"}
    assert not any(leaf.any() for leaf in leaves(program.example_inputs))
    with zipfile.ZipFile(tmp_path / "model.pt2") as file:
        assert not any(b"tuneflow/" in file.read(name) for name in file.namelist())  # paths of this machine


def test_other_endings_are_refused(best, tmp_path):
    with pytest.raises(ValueError, match=r"one of \.pt2, \.pt, \.onnx, got 'model.pth'"):
        best.export(tmp_path / "model.pth")


def test_a_loop_needs_rows_to_follow(tmp_path):
    @tn.loop(epochs=1, check=False)
    def train(config, run):
        net = nn.Linear(3, 3)
        for _ in run.epochs(net=net, result=net):
            yield {"loss": 0.0}

    study = tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), trainer=train, minimize="loss", progress=False)
    study.run(trials=1)
    with pytest.raises(tn.errors.StudyError, match="holds no rows"):
        study.best.export(tmp_path / "model.pt2")
    with pytest.raises(ValueError, match="a batch of tensors with at least one row"):
        study.best.export(tmp_path / "model.pt2", inputs=[0.5])
    study.best.export(tmp_path / "model.pt2", inputs=(rows := torch.randn(2, 3)))
    assert torch.equal(read(tmp_path / "model.pt2")(rows), study.best.model()(rows))


def test_a_bf16_module_may_round_elsewhere_in_its_program(tmp_path):
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(1, 8), nn.Linear(8, 3)
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)

        def forward(self, x):
            return self.last(self.layer(self.first(x[..., None])).mean(1))

    torch.manual_seed(0)
    rows = torch.randn(16, 6)
    module, _ = calibrated(Attending().eval(), Convert("bf16"), [rows])
    export_model(tmp_path / "model.pt2", module, [rows], {})
    assert torch.allclose(read(tmp_path / "model.pt2")(rows), module(rows), atol=0.05)


def test_inputs_that_the_module_does_not_take_are_refused_as_such(tmp_path):
    study = make()
    study.run(trials=1)
    with pytest.raises(ValueError, match=r"export: the module does not take such inputs \(RuntimeError: mat1 and"):
        study.best.export(tmp_path / "model.pt2", inputs=torch.ones(2, 3))


def test_a_program_is_told_from_a_saved_model_and_a_trained_module_from_its_builder(tmp_path):
    study = make()
    study.run(trials=1)
    study.best.save(tmp_path / "saved.pt")
    for name in ("program.pt", "program.pt2"):
        study.best.export(tmp_path / name)
        with pytest.raises(tn.errors.CheckpointError, match=r"a program, as Result\.export writes one; torch"):
            tn.load(tmp_path / name, net)
    for source in (study.best, study.best.model(), tn.Model(study.best)):
        with pytest.raises(TypeError, match="load needs the function that makes the module, got a trained one"):
            tn.load(tmp_path / "saved.pt", source)
