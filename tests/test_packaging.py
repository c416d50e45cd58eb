"""What is shipped: the sdist is what git knows, the wheel the package alone."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
FOR_GIT_ALONE = {".gitignore"}
BUNDLED_WEIGHTS = "keras_resnet/weights/cifar10/some.safetensors"
STRAY = ["keras_resnet/notes.txt", "keras_resnet/__pycache__/x.pyc", "tests/__pycache__/x.pyc", "runs/demo/log.csv"]
BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]  # the first build changes sys.argv
build_meta.build_sdist(folder)
build_meta.build_wheel(folder)
"""


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The files that git knows, and weights that may be bundled."""
    if not (ROOT / ".git").exists():
        pytest.skip("What is shipped is compared with what git knows, and this is no clone.")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {*listed.strip("\0").split("\0"), BUNDLED_WEIGHTS}


@pytest.fixture(scope="module")
def built(known, tmp_path_factory) -> Path:
    """A folder with an sdist and a wheel of a clone in which someone has worked."""
    clone, target = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("built")
    for name in (*known, *STRAY):
        file = clone / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((ROOT / name).read_bytes() if (ROOT / name).is_file() else b"")
    subprocess.run([sys.executable, "-c", BUILD, target], cwd=clone, capture_output=True, timeout=100, check=True)
    return target


def test_the_sdist_has_what_builds_and_tests_it(built, known):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        members = {member.name.partition("/")[2] for member in archive if member.isfile()}
    made = {name for name in members if name == "PKG-INFO" or ".egg-info/" in name}
    assert members - made == known - FOR_GIT_ALONE


def test_the_wheel_has_the_package_and_nothing_else(built, known):
    (path,) = built.glob("*.whl")
    members = set(zipfile.ZipFile(path).namelist())
    about = {name for name in members if PurePosixPath(name).parts[0].endswith(".dist-info")}
    assert members - about == {name for name in known if name.startswith("keras_resnet/")}
    assert {PurePosixPath(name).name for name in about} == {"LICENSE", "METADATA", "RECORD", "WHEEL", "top_level.txt"}
