"""The house: who may import whom, what an import loads, and what the command line prints."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import preprocessing
from keras_resnet.architectures import FAMILIES, NAMED
from keras_resnet.cards import default_card
from keras_resnet.training.config import RECIPES

pytestmark = pytest.mark.lower_house
PACKAGE = Path(keras_resnet.__file__).parent

# The floors, from the ground up; a module imports from lower floors, a folder's modules also from each other.
FLOORS = [
    ("_version", "preprocessing"),
    ("architectures",),
    ("layers",),
    ("blocks",),
    ("weights",),
    ("models",),
    ("cards",),
    ("data",),
    ("analysis",),
    ("training",),
    ("classifiers",),
    ("reports",),
    ("evaluation",),
    ("export",),
    ("__init__", "__main__"),
]
# The modules that users call by name: each of their functions shows how.
DOORS = {"architectures", "layers", "models", "preprocessing", "weights/__init__", "cards", "classifiers", "reports"}
DOORS |= {"evaluation", "analysis/curves", "analysis/networks", "analysis/pictures", "data/augmentation"}
DOORS |= {"data/sources", "data/pipeline", "training/loop", "training/schedules", "training/strategies", "export/run"}
LOWER_HOUSE = {name for floor in FLOORS[:7] for name in floor} | {"__init__", "__main__"}
LEVEL = {name: level for level, floor in enumerate(FLOORS) for name in floor}
UPPER_ONLY = {"tensorflow", "tensorflow_datasets", "keras_cv"}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE), ast.parse(path.read_text())


def imports(tree, top_level_only=False):
    """Dotted names that a module imports; relative imports are not used in this package."""
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_import_runs_up_the_house():
    for path, tree in modules():
        own = path.parts[0].removesuffix(".py")
        for name in imports(tree):
            if name.startswith("keras_resnet."):
                other = name.split(".")[1]
                if other in LEVEL:  # else a name of the package itself, such as keras_resnet.ResNet50
                    assert own == other or LEVEL[other] < LEVEL[own], f"{path} imports {name}"
                else:
                    assert own == "__main__", f"{path} imports {name} from the roof"


def test_the_lower_house_needs_no_tensorflow():
    for path, tree in modules():
        if path.parts[0].removesuffix(".py") in LOWER_HOUSE:
            assert not UPPER_ONLY & {name.split(".")[0] for name in imports(tree, top_level_only=True)}, path


def test_no_circle():
    graph = {}
    for path, tree in modules():
        module = ".".join(("keras_resnet", *path.with_suffix("").parts)).removesuffix(".__init__")
        graph[module] = {name for name in imports(tree, top_level_only=True) if name.startswith("keras_resnet.")}
    known = set(graph)
    edges = {m: {n if n in known else n.rpartition(".")[0] for n in names} & known - {m} for m, names in graph.items()}
    while edges:
        leaves = {module for module, names in edges.items() if not names & edges.keys()}
        assert leaves, f"a circle of imports among {sorted(edges)}"
        edges = {module: names for module, names in edges.items() if module not in leaves}


def test_files_are_short():
    for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "recipes").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 400, path


def run(code_or_module, *arguments):
    command = [sys.executable, "-W", "error", *code_or_module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


def test_importing_loads_the_lower_house_only_and_says_nothing():
    code = """
import sys
sys.path.insert(0, "recipes")
import quiet
with quiet.without_chatter():
    import keras
    before = set(sys.modules)
    import keras_resnet
new = {name.split(".")[0] for name in set(sys.modules) - before}
heavy = {"tensorflow", "tensorflow_datasets", "keras_cv", "keras_hub", "torch", "h5py", "matplotlib", "PIL"}
print(sorted(new & heavy))
"""
    command = [sys.executable, "-W", "error", "-c", code]
    told = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, timeout=300, check=False)
    assert (told.stdout, told.stderr) == ("[]\n", "")


def test_the_table_of_networks():
    table = run(["-m", "keras_resnet"])
    for family, rows in FAMILIES.items():
        assert family in table
        assert all(f"\n  {name} " in table for name in rows)
    assert "25,557,032" in table
    only = run(["-m", "keras_resnet", "plain*"])
    assert "Plain34" in only
    assert "ResNet50" not in only
    assert run(["-m", "keras_resnet", "--markdown"]).count("\n| ") > len(NAMED)


def test_every_public_name_is_documented_and_what_users_call_has_an_example():
    for name in keras_resnet.__all__:
        if name != "__version__":
            assert getattr(keras_resnet, name).__doc__, name
    seen = set()
    for path, tree in modules():
        seen.add(door := path.with_suffix("").as_posix())
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                told = ast.get_docstring(node) or ""
                assert told, f"{path}: {node.name}"
                if door in DOORS and isinstance(node, ast.FunctionDef):
                    assert "Example:\n>>> " in told, f"{path}: {node.name}"
    assert seen >= DOORS


def test_backend():
    """Which backend these tests ran on; the environment `jax` has no TensorFlow at all."""
    if keras.backend.backend() == "jax":
        with pytest.raises(ImportError):
            __import__("tensorflow")


# What takes minutes, or data that a machine may not have, is tried by tests of its own.
LONG = {"data/pipeline", "training/finetuning", "training/loop"}
EXAMPLES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): path.read_text()
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
}


@pytest.mark.parametrize("module", sorted(EXAMPLES.keys() - LONG))
def test_the_examples_run(module, tmp_path, monkeypatch):
    if module == "data/storage" or re.search(r"^import tensorflow|>>> .*\btf\.", EXAMPLES[module], re.MULTILINE):
        pytest.importorskip("tensorflow")
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(f"keras_resnet.{module.replace('/', '.').removesuffix('.__init__')}")
    except ModuleNotFoundError as error:
        if keras.backend.backend() == "tensorflow":
            raise
        pytest.skip(f"{error.name} is not installed")
    known = {"keras_resnet": keras_resnet, "keras": keras, "np": np, "RECIPES": RECIPES}
    known |= {"NAMED": preprocessing.NAMED, "default_card": default_card}
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(module, globs=known | vars(module), optionflags=options).failed == 0
