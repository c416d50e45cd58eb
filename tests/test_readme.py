"""What the README shows, works: each block of Python is run, in order, in a folder of its own."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_each_block_of_python_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 2
    command = [sys.executable, "-c", "\n".join(blocks)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "IMAGENET1K_V2 80.858 232" in result.stdout


def test_the_two_commands_are_the_ones_that_are_checked():
    commands = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    assert [command.count("\n") for command in commands[:2]] == [1, 1]
    checked = (README.parent / ".ci" / "run").read_text()
    for step in commands[1].strip().split(" && "):
        assert step in checked
