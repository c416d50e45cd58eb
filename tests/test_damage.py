"""Files of weights that were damaged: one kind of error, with one line, or arrays that are well formed."""

from pathlib import Path

import numpy as np
import pytest
from golden.make_files import FILES, values
from hypothesis import given, settings, strategies as st
from weights_files import KERAS, assert_same, network, refusal, save_in_every_format

from keras_resnet.weights.bounds import DTYPES, EXPANSION
from keras_resnet.weights.readers import WeightsFileError, read, write_safetensors

pytestmark = pytest.mark.lower_house
GOLDEN = sorted(path.name for path in FILES.iterdir())


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_in_every_format(network(), tmp_path_factory.mktemp("keras"))


@st.composite
def damage(draw, size: int) -> list[tuple[str, int, bytes]]:
    """A few changes to a file of `size` bytes: bytes replaced, a piece cut out, bytes put in, the end lost."""
    change = st.tuples(
        st.sampled_from(["replace", "insert", "cut", "end"]), st.integers(0, size), st.binary(max_size=8)
    )
    return draw(st.lists(change, min_size=1, max_size=4))


def damaged(content: bytes, changes: list) -> bytes:
    for kind, position, data in changes:
        rest = {"replace": position + len(data), "insert": position, "cut": position + 9, "end": len(content)}[kind]
        content = content[:position] + data + content[rest:]
    return content


@pytest.mark.parametrize("name", [*GOLDEN, *KERAS, "plain.npz", "packed.npz", "written.safetensors"])
def test_a_damaged_file_is_refused_or_well_formed(saved, tmp_path, name):
    """Whatever happens to a file, `read` gives arrays within the bound or its one exception with one line."""
    np.savez(saved / "plain.npz", **values())
    np.savez_compressed(saved / "packed.npz", **values())
    write_safetensors(saved / "written.safetensors", values())
    content = (FILES / name if name in GOLDEN else saved / name).read_bytes()
    path = tmp_path / name

    @settings(max_examples=60, deadline=None, database=None)
    @given(damage(len(content)))
    def check(changes):
        path.write_bytes(damaged(content, changes))
        try:
            arrays = read(path)
        except WeightsFileError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error) and len(str(error)) < 1000
        else:
            assert arrays and all(isinstance(array, np.ndarray) for array in arrays.values())
            assert all(isinstance(name, str) and array.dtype in DTYPES for name, array in arrays.items())
            assert sum(array.nbytes for array in arrays.values()) <= EXPANSION * path.stat().st_size

    check()


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"", b"\x89HDF\r\n\x1a\n" + bytes(88), b"PK\x03\x04", b"\x80\x02", b"\x10" + bytes(7) + b"{"]),
    st.binary(),
)
def test_random_bytes_are_refused(tmp_path_factory, start, rest):
    refusal(tmp_path_factory.getbasetemp() / "random", start + rest)


@pytest.mark.parametrize("name", [*GOLDEN, *KERAS])
def test_no_truncation_passes_unnoticed(saved, tmp_path, name):
    """Half a file is never half the weights."""
    original = FILES / name if name in GOLDEN else saved / name
    content = original.read_bytes()
    try:
        expected = read(original)
    except WeightsFileError:
        expected = None
    for size in range(0, len(content), max(1, len(content) // 50)):
        (tmp_path / name).write_bytes(content[:size])
        with pytest.raises(WeightsFileError):
            read(tmp_path / name)
    if expected:
        (tmp_path / name).write_bytes(content)
        assert_same(read(tmp_path / name), expected)
