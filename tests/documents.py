"""What README and docs show, as blocks that can be run.

The line before a fence says what its block needs where the default suite does not run it as it stands: `<!-- slow -->`,
`<!-- with: FLAGS -->` and `<!-- slow, with: FLAGS -->` (for each recipe in it), or `<!-- not run: REASON -->`: then the
flags of its recipes are parsed, and no more.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *(page for folder in ("docs/*.md", "saved_models/*/README.md") for page in sorted(ROOT.glob(folder))),
]
_FENCE = re.compile(r"^(?:<!-- (?P<note>.*?) -->\n)?```(?P<language>python|sh)\n(?P<code>.*?)^```$", re.M | re.S)
_RECIPE = re.compile(
    r"(?:^|\b(?:do|srun(?: --\S+)*) )\S*python (?P<recipe>recipes/\S+\.py)(?P<arguments>[^\n#|>&;]*[^\n#|>&; ])", re.M
)
_RUN = """
import json, subprocess, sys
shown = {"__name__": "__main__"}
for where, language, code in json.load(sys.stdin):
    print(where, flush=True)
    if language == "python":
        exec(compile(code, where, "exec"), shown)
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
"""
_PARSE = """
import runpy, sys
from absl import flags
sys.path[:0] = ["recipes", sys.argv[1].rpartition("/")[0]]
runpy.run_path(sys.argv[1], run_name="parsed")
for line in sys.stdin.read().splitlines():
    flags.FLAGS.unparse_flags()
    flags.FLAGS([sys.argv[1], *line.split("\\t")])
"""


class Block(NamedTuple):
    """A fenced block of a page."""

    where: str
    language: str
    code: str
    slow: bool
    run: bool


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order; continued lines are one."""
    text, found = page.read_text("utf-8"), []
    for match in _FENCE.finditer(text):
        note, code = match["note"] or "", match["code"]
        if match["language"] == "sh":
            code = re.sub(r" *\\\n *", " ", code)
        code = _RECIPE.sub(rf"\g<0> {note.partition('with: ')[2]}", code)
        where = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, match.start('code')) + 1}"
        found.append(Block(where, match["language"], code, note.startswith("slow"), not note.startswith("not run: ")))
    return found


def commands_in_a_line(page: Path) -> list[Block]:
    """The recipes' commands between backticks, which are not run."""
    found = re.findall(r"`(python recipes/(?![^`]*--help)[^`]+)`", page.read_text("utf-8"))
    return [Block(str(page.relative_to(ROOT)), "sh", code, slow=False, run=False) for code in found]


def run(page: Path, folder: Path, slow: bool) -> None:
    """Runs the blocks of a page in one process, those of shell as its children; with the slow ones or without them."""
    chosen = [block[:3] for block in blocks(page) if block.run and (slow or not block.slow)]
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    program, given = [sys.executable, "-c", _RUN], json.dumps(chosen)
    result = subprocess.run(
        program, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]


def parse_flags(found: list[Block]) -> None:
    """Parses the flags of each recipe's commands without running them."""
    commands = defaultdict(list)
    for block in found:
        for match in _RECIPE.finditer(block.code):
            commands[match["recipe"]].append(shlex.split(match["arguments"]))
    for recipe, lines in commands.items():
        text = "\n".join("\t".join(words) for words in lines)
        result = subprocess.run(
            [sys.executable, "-c", _PARSE, recipe], cwd=ROOT, input=text, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{recipe}: {result.stderr[-2000:]}"


def stage(folder: Path) -> Path:
    """Makes a folder of what the pages speak of: the recipes, photographs in folders, CIFAR-10, a trained network."""
    import numpy as np
    import tensorflow as tf

    import keras_resnet
    from keras_resnet.cards import Card, save_model
    from keras_resnet.preprocessing import NAMED

    folder.mkdir()
    for name in ("recipes", "results", "saved_models", "tests"):
        (folder / name).symlink_to(ROOT / name)
    random, classes = np.random.default_rng(0), ("circle", "cross", "square", "star")
    for name in classes:
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 256, (4, 5, 3)).repeat(20, 0).repeat(20, 1).astype("uint8")
            (folder / "photos" / name / f"{number}.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
    (folder / "photo.jpg").write_bytes((folder / "photos" / "star" / "0.jpg").read_bytes())
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name in [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]:
            (folder / name).write_bytes(random.integers(0, 10, (30, 3073), np.uint8).tobytes())
            archive.add(folder / name, name)
            (folder / name).unlink()
    (folder / "runs" / "mine").mkdir(parents=True)
    card = Card(network="ResNet20", preprocessing=NAMED["cifar10"], class_names=classes)
    save_model(keras_resnet.ResNet20(classes=len(classes)), folder / "runs" / "mine" / "model.keras", card)
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    return folder
