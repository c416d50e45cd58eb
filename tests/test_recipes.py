"""Every recipe's --help, and what a recipe lets through to the terminal."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from keras_resnet.training.config import ALL_REDUCE, AUGMENTATIONS, RECIPES, STRATEGIES

pytestmark = pytest.mark.lower_house
FOLDER = Path(__file__).parents[1] / "recipes"
RECIPE_FILES = [path for path in sorted(FOLDER.rglob("*.py")) if "common.run(main" in path.read_text()]
RECIPE_FILES.append(FOLDER / "serving" / "client.py")


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_help_fits_a_screen_shows_an_example_and_waits_for_nothing_heavy(path):
    told = run("-X", "importtime", str(path), "--help")
    assert sum(math.ceil(len(line) / 80) for line in told.stdout.splitlines()) <= 55
    assert f"python recipes/{path.relative_to(FOLDER)} " in told.stdout
    imported = set(re.findall(r"\| +(\w+)\n", told.stderr))
    assert "absl" in imported
    assert not imported & {"keras", "tensorflow", "numpy", "keras_resnet"}


def test_help_names_all_that_can_be_chosen():
    told = run(str(FOLDER / "imagenet.py"), "--help").stdout
    for flag, names in (
        ("recipe", RECIPES),
        ("augmentation", AUGMENTATIONS),
        ("strategy", STRATEGIES),
        ("all_reduce", ALL_REDUCE),
    ):
        (text,) = re.findall(rf"--{flag}: .*?: ((?:[^.]|\.\w)*)\.\n", told)
        assert re.findall(r"[\w-]+", text.replace(" or ", " ")) == list(names)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["photos/"], r"There are only flags here: --NAME=VALUE. Received: photos/"),
        (["--set=momentum=high"], "`momentum` must be float. Received: 'high'"),
        (["--learning_rate=-1"], "`learning_rate` must be at least 0. Received: -1"),
        (["--export=tflight"], r"(`formats` are some of .*'tflight'|No module named 'tensorflow')"),
    ],
)
def test_a_mistake_is_told_in_a_line_before_anything_is_done(flags, complaint, tmp_path):
    told = run(str(FOLDER / "cifar10.py"), *flags, f"--dataset={tmp_path}", f"--run_dir={tmp_path / 'run'}")
    assert told.returncode == 1
    assert re.search(complaint, told.stderr)
    assert "Traceback" not in told.stderr
    assert not (tmp_path / "run").exists()


def test_the_start_is_quiet_and_hides_nothing_else(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    code = """if True:
        import os, sys, warnings
        sys.path.insert(0, sys.argv[1])
        import quiet
        with quiet.without_chatter():
            import keras
            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf
                tf.config.list_logical_devices()
            os.write(2, b"I0000 00:00:1.2 3 some.cc:4] chatter\\nW0000 00:00:1.2 3 some.cc:4] a warning\\n")
        warnings.warn("a warning of Python's")
        with quiet.without_chatter():
            print("a line", file=sys.stderr)
            os.write(2, b"last words, as of a crash")
            os._exit(1)
    """
    told = run("-c", code, str(FOLDER)).stderr.splitlines()
    assert told == [
        "W0000 00:00:1.2 3 some.cc:4] a warning",
        "<string>:11: UserWarning: a warning of Python's",
        "a line",
        "last words, as of a crash",
    ]


def test_benchmarks_run_in_turn_and_quote_medians():
    """The first round does not count; a ratio is of two values of one round."""
    code = """if True:
        import json, sys
        sys.path.insert(0, sys.argv[1])
        import benchmark
        first, second = iter([9, 1, 2, 4]), iter([0, 3, 3, 3])
        both = {"peer": first.__next__, "ours": second.__next__}
        result = benchmark.measure(benchmark.Measurement("train", "images/s", both), rounds=3)
        alone = benchmark.measure(benchmark.Measurement("input", "images/s", {"ours": lambda: 5}), rounds=3)
        print(json.dumps(result))
        print(benchmark.markdown([result, alone]))
    """
    told = run("-c", code, str(FOLDER))
    result, *table = told.stdout.splitlines()
    assert json.loads(result)["rounds"] == {"peer": [1, 2, 4], "ours": [3, 3, 3]}
    assert json.loads(result)["medians"] == {"peer": 2, "ours": 3}
    assert table[-2:] == [
        "| train | peer | 2 images/s | ours | 3 images/s | 1.50 | 0.75 - 3.00 |",
        "| input |  |  | ours | 5 images/s | | |",
    ]


def test_the_readmes_table_is_what_was_measured():
    code = """if True:
        import json, pathlib, sys
        sys.path.insert(0, sys.argv[1])
        import benchmark
        files = [pathlib.Path(sys.argv[2], f"{name}.json") for name in benchmark.BENCHMARKS]
        print(benchmark.markdown([row for file in files for row in json.loads(file.read_text())["results"]]))
    """
    table = run("-c", code, str(FOLDER), str(FOLDER.parent / "results" / "speed")).stdout
    assert table.count("\n") > 10
    assert table in (FOLDER.parent / "README.md").read_text("utf-8")
