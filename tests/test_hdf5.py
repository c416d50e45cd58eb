"""HDF5 read in Python against HDF5 written by the library, and files that the library itself does not survive."""

import io

import h5py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as npst

from keras_resnet.weights import hdf5
from keras_resnet.weights.bounds import DTYPES, Budget, WeightsFileError, next_bytes

pytestmark = pytest.mark.lower_house


def written(fill, **options) -> bytes:
    """The bytes of a file that `fill` wrote into."""
    memory = io.BytesIO()
    with h5py.File(memory, "w", **options) as file:
        fill(file)
    return memory.getvalue()


def arrays_of(content: bytes) -> dict[str, np.ndarray]:
    file = hdf5.File(io.BytesIO(content), Budget(len(content)))
    return {"/".join(path): file.array(array, "it") for path, array in file.survey()[1].items()}


def refusal(content: bytes) -> str:
    with pytest.raises(WeightsFileError) as refused:
        arrays_of(content)
    return str(refused.value)


@pytest.mark.parametrize("dtype", sorted(DTYPES, key=str), ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 1)], ids=str)
def test_every_type_and_shape_comes_back_bit_by_bit(dtype, shape):
    array = np.random.RandomState(0).randint(0, 2, shape).astype(dtype)

    def fill(file):
        file["x"] = array

    found = arrays_of(written(fill))["x"]
    assert found.dtype == dtype and found.shape == shape and found.tobytes() == array.tobytes()
    assert found.flags.writeable


def test_big_endian_arrays_become_native():
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    found = arrays_of(written(lambda file: file.create_dataset("x", data=array)))["x"]
    assert found.dtype == np.float32 and found.dtype.isnative
    np.testing.assert_array_equal(found, array)


def test_a_native_bfloat16_is_read():
    """HDF5 2.0 and libraries other than h5py have a float type for it."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    array = np.array([1.5, -2], ml_dtypes.bfloat16)

    def fill(file):
        dataset = h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple((2,)))
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array.view(np.uint16), mtype=kind)

    found = arrays_of(written(fill))["x"]
    assert found.dtype == ml_dtypes.bfloat16 and found.tolist() == [1.5, -2]


def test_booleans_are_zero_or_one_whatever_their_bytes():
    content = written(lambda file: file.create_dataset("x", data=np.array([True, False] * 20)))
    changed = content.replace(b"\1\0" * 20, b"\7\0" * 20)
    assert changed != content and arrays_of(changed)["x"].view(np.uint8).tolist() == [1, 0] * 20


def test_a_compact_array_is_read_from_its_header():
    def fill(file):
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.COMPACT)
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((3,)), layout)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1, 2, 3], np.float32))

    assert arrays_of(written(fill))["x"].tolist() == [1, 2, 3]


def test_an_index_of_several_levels_loses_no_group():
    """A leaf holds 8 names and a node 32 leaves, so 2000 groups need two levels."""

    def fill(file):
        for i in range(2000):
            file[f"layer{i}/x"] = np.float32(i)

    found = arrays_of(written(fill))
    assert {name: float(array) for name, array in found.items()} == {f"layer{i}/x": i for i in range(2000)}


def test_attributes_are_found_in_every_continuation():
    texts = {f"name{i}": "ü" * i for i in range(40)}

    def fill(file):
        file.attrs.update(texts)
        file.attrs["bytes"] = np.bytes_(b"fixed")
        file.attrs["list"] = ["a", "b"]
        file.attrs["number"] = 3
        file["x"] = np.ones(3)

    content = written(fill)
    file = hdf5.File(io.BytesIO(content), Budget(len(content)))
    root = file.survey()[0][()]
    found = {name: file.text(attribute) for name, attribute in root.attributes.items()}
    assert found == {**texts, "bytes": "fixed", "list": None, "number": None}


TREES = st.recursive(
    npst.arrays(npst.floating_dtypes(sizes=(16, 32, 64)) | npst.integer_dtypes(), npst.array_shapes(max_side=4)),
    lambda children: st.dictionaries(st.text("abcd_0", min_size=1, max_size=8), children, max_size=12),
    max_leaves=20,
)


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(st.text("xyz", min_size=1), TREES, max_size=4))
def test_any_tree_of_groups_reads_as_the_library_reads_it(tree):
    def fill(group, tree):
        for key, value in tree.items():
            if isinstance(value, dict):
                fill(group.create_group(key), value)
            else:
                group[key] = value

    content = written(lambda file: fill(file, tree))
    expected = {}
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(lambda name, item: expected.update({name: item[...]}) if hasattr(item, "dtype") else None)
    found = arrays_of(content)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def chunked(file):
    file.create_dataset("x", data=np.zeros(100), chunks=(10,))


def compressed(file):
    file.create_dataset("x", data=np.zeros(10**6), compression="gzip")


def never_written(file):
    file.create_dataset("x", shape=(2**40,), dtype="f4")


def soft_link(file):
    file["x"] = h5py.SoftLink("/y")


def external_link(file):
    file["x"] = h5py.ExternalLink("/etc/passwd", "/")


def external_storage(file):
    file.create_dataset("x", shape=(10,), dtype="u1", external=[("/etc/passwd", 0, 10)])


def virtual(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    file.create_virtual_dataset("x", layout)


def loop(file):
    file.create_group("a")["b"] = file["/"]


def array_of_two_names(file):
    file["x"] = np.zeros(100)
    for i in range(1000):
        file[f"y{i}"] = file["x"]


def deep(file):
    file["/".join("a" * 80)] = 1.0


REFUSED = {
    chunked: "chunks, compressed",
    compressed: "chunks, compressed",
    virtual: "chunks, compressed",
    never_written: "does not hold the 4398046511104 bytes",
    soft_link: "leads elsewhere",
    external_link: "layout",
    external_storage: "outside the file",
    loop: "contain or repeat one another",
    array_of_two_names: "contain or repeat one another",
    deep: "64 deep",
    lambda file: file.create_dataset("x", data="text"): "no plain number",
    lambda file: file.create_dataset("x", data=np.zeros(3, "f4,i4")): "no plain number",
    lambda file: file.create_dataset("x", data=np.zeros(3, "c8")): "no plain number",
    lambda file: file.create_dataset("x", data=h5py.Empty("f4")): "a shape belongs",
    lambda file: file.create_group("g", track_order=True): "or a newer one",
    lambda file: file.create_group("größe"): "plain layer names",
}


@pytest.mark.parametrize(("fill", "reason"), REFUSED.items(), ids=REFUSED.values())
def test_what_keras_never_writes_is_refused_by_name(fill, reason):
    assert reason in refusal(written(fill))


@pytest.mark.parametrize(
    ("signature", "reason"),
    [(b"HEAP", "no names for a group"), (b"SNOD", "no index of a group"), (b"TREE", "no index of a group")],
)
def test_structure_without_its_signature_is_refused(signature, reason):
    content = written(lambda file: file.create_dataset("x", data=np.zeros(3)))
    assert reason in refusal(content.replace(signature, b"XXXX"))


def test_a_text_without_its_heap_is_refused():
    content = written(lambda file: file.attrs.update(name="text")).replace(b"GCOL", b"XXXX")
    file = hdf5.File(io.BytesIO(content), Budget(len(content)))
    with pytest.raises(WeightsFileError, match="no heap"):
        file.text(file.survey()[0][()].attributes["name"])


def test_a_file_that_shrinks_while_it_is_read_is_refused():
    with pytest.raises(WeightsFileError, match="ended while it was being read"):
        next_bytes(io.BytesIO(b"123"), 4)


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"userblock_size": 512}], ids=str)
def test_other_layouts_of_the_file_are_refused(options):
    content = written(lambda file: file.create_dataset("x", data=np.zeros(3)), **options)
    assert "another layout" in refusal(content[options.get("userblock_size", 0) :])


def test_every_truncation_is_noticed():
    content = written(lambda file: file.create_dataset("a/b", data=np.zeros(3)))
    for size in range(len(content)):
        with pytest.raises(WeightsFileError):
            arrays_of(content[:size])
