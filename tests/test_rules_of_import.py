"""The rules of import: to lower layers only, no circle between files, slow packages where they are used, thin faces."""

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import tuneflow as tn

ROOT = Path(tn.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Lowest first. A file imports from its own room and from the lines above its own; those of one line do not see each
# other unless they are in the same room.
LAYERS = [
    ["errors", "version"],
    ["markup"],
    ["seeds", "signature", "validate", "nested"],
    ["space", "runtime", "data", "metrics", "nn", "optim"],
    ["history", "heuristics", "fused"],
    ["measure"],
    ["compress"],
    ["harden"],
    ["model"],
    ["search", "schedule"],
    ["train"],
    ["check", "execute", "store"],
    ["probing", "testing"],
    ["analysis"],
    ["pages", "plot"],
    ["study"],
    ["types"],
    ["__init__"],
    ["demo"],
    ["demo_techniques"],
    ["commands"],
    ["__main__"],
]
LAYER = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}

GP_FILES = [path.stem for path in (ROOT / "search" / "gp").glob("*.py")]

# What is optional or slow to import, and who waits with it until it is used.
LATE = {
    ("tuneflow.analysis.table", "pandas"),  # optional
    ("tuneflow.analysis.table", "polars"),  # optional
    ("tuneflow.commands.run_demo", "tuneflow.demo"),
    ("tuneflow.commands.run_demo", "tuneflow.demo_techniques"),
    ("tuneflow.compress.arithmetic", "tuneflow.compress.tracing"),
    ("tuneflow.compress.converted", "tuneflow.compress.int8"),  # torch.ao
    ("tuneflow.execute.choose", "tuneflow.execute.ray.executor"),  # Ray
    ("tuneflow.execute.workers.sendable", "cloudpickle"),  # optional
    ("tuneflow.compress.pruning_groups", "torch_pruning"),  # optional
    ("tuneflow.execute.in_process", "tuneflow.execute.lanes.executor"),  # tracing
    ("tuneflow.study.speed_measurement", "tuneflow.execute.lanes.benchmark"),  # tracing
    ("tuneflow.study.export_formats", "onnx.reference"),  # optional
    ("tuneflow.study.export_formats", "onnxruntime"),  # optional
    *(("tuneflow.search.gp.gp", f"tuneflow.search.gp.{name}") for name in GP_FILES),  # scipy.linalg, scipy.optimize
    ("tuneflow.analysis.surrogate", "tuneflow.search.gp.gaussian_process"),  # scipy.linalg, scipy.optimize
    ("tuneflow.analysis.total_effects", "tuneflow.search.gp.function_draws"),
    ("tuneflow.measure.macs", "torch.utils.flop_counter"),
    *(("tuneflow.plot.canvas", f"matplotlib.{name}") for name in ("axes", "colors", "figure")),  # optional
    ("tuneflow.plot.canvas", "tuneflow.plot.artists"),  # matplotlib
    ("tuneflow.plot.contour_plot", "matplotlib.colors"),  # optional
    ("tuneflow.plot.labels", "matplotlib.font_manager"),  # optional
    *(
        (f"tuneflow.plot.{name}_plot", "matplotlib.collections") for name in ("curves", "parallel", "timeline")
    ),  # optional
    ("tuneflow.plot.scaling", "matplotlib.ticker"),  # optional
    ("tuneflow.plot.scaling", "tuneflow.plot.artists"),  # matplotlib
    ("tuneflow.search.gp.targets", "scipy.special"),
    ("tuneflow.search.normal", "scipy"),
}
IN_PARALLEL_ROOMS = {"executor", "proxy", "pickling"}


def module_of(path: Path) -> str:
    parts = ("tuneflow", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def room_of(module: str) -> str:
    return [*module.split("."), "__init__"][1]


def imported(node: ast.AST) -> list[str]:
    """The modules that an import statement names: `from tuneflow.train import rates` names tuneflow.train.rates."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else node.module for name in names]
    return []


def imports_of(path: Path) -> set[str]:
    """Modules of tuneflow that a file imports, under TYPE_CHECKING and inside functions too."""
    found = {name for node in ast.walk(ast.parse(path.read_text())) for name in imported(node)}
    return {name for name in found if name.split(".")[0] == "tuneflow"}


def test_every_module_has_a_layer():
    assert {room_of(module) for module in MODULES} == set(LAYER)


def test_imports_go_to_lower_layers_or_stay_in_the_room():
    upward = [
        (module, other)
        for module, path in MODULES.items()
        for other in imports_of(path)
        if room_of(module) != room_of(other) and LAYER[room_of(other)] >= LAYER[room_of(module)]
    ]
    # siblings of a layer that build on nothing of each other may not start to
    assert upward == []


def test_no_circle_between_files():
    graph = {module: imports_of(path) - {module} for module, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(circle.args[1]))


def test_only_optional_and_slow_packages_are_imported_inside_functions():
    late = []
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                late += [(module, name) for node in ast.walk(function) for name in imported(node)]
    assert set(late) <= LATE


def test_a_face_only_reexports():
    for path in FILES:
        if path.name == "__init__.py" and path.parent != ROOT:
            body = ast.parse(path.read_text()).body
            names = {node.targets[0].id for node in body if isinstance(node, ast.Assign)}
            kinds = {type(node) for node in body if getattr(node, "name", "") != "__dir__"}
            assert (names - {"__all__"}, kinds - {ast.Expr, ast.ImportFrom, ast.Assign}) == (set(), set()), path


def test_the_library_imports_from_files_and_not_from_faces():
    through = [
        (module, other)
        for module, path in MODULES.items()
        for other in imports_of(path)
        if path.name != "__init__.py" and MODULES[other].name == "__init__.py" and other != "tuneflow"
    ]
    assert through == []


def test_no_class_name_and_no_file_name_twice():
    classes = Counter()
    for path in FILES:
        names = {
            node.name.lstrip("_") for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
        }
        classes.update(names)
    assert [name for name, count in classes.items() if count > 1] == []
    files = Counter(path.stem for path in FILES if not path.stem.startswith("__"))
    assert {name for name, count in files.items() if count > 1} <= IN_PARALLEL_ROOMS


def test_at_most_14_modules_lie_loose_at_the_top():
    assert len(list(ROOT.glob("*.py"))) <= 14
