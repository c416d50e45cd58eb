"""CIFAR-10's own files, made here in small as the dataset's page describes them, and what tfds has prepared."""

import gzip
import pickle
import pickletools
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from keras_resnet.data import cifar
from keras_resnet.data.cifar import load_cifar10

pytestmark = pytest.mark.lower_house
SHARED = Path(__file__).parents[2] / "shared" / "data" / "tensorflow_datasets"
NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def batch(number, count=4):
    """A batch's images, channels last, and its labels."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count)


IMAGES, LABELS = (np.concatenate(column) for column in zip(*(batch(number) for number in range(5))))


def stored(images):
    """Rows of 3072 bytes: all red pixels first, row by row, then green, then blue."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def python_2_pickle(images, labels):
    """What Python 2 wrote: byte strings as BINSTRING, numpy's names as they were then, the memo from 1."""

    def string(text):
        return b"U" + bytes([len(text)]) + text

    def integer(value):
        return b"K" + bytes([value])

    rows = stored(images)
    dtype = b"cnumpy\ndtype\n" + string(b"u1") + b"K\x00K\x01\x87R(K\x03" + string(b"|") + b"NNNJ" + b"\xff" * 4
    dtype += b"J" + b"\xff" * 4 + b"K\x00tb"
    content = b"T" + len(rows.tobytes()).to_bytes(4, "little") + rows.tobytes()
    shape = integer(len(rows)) + b"M" + (3072).to_bytes(2, "little") + b"\x86"
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85" + string(b"b") + b"\x87Rq\x03"
    array += b"(K\x01" + shape + dtype + b"\x89" + content + b"tb"
    numbers = b"](" + b"".join(integer(int(label)) for label in labels) + b"e"
    items = [string(b"batch_label") + string(b"some batch"), string(b"labels") + numbers, string(b"data") + array]
    return b"\x80\x02}(" + b"".join(items) + b"u."


def pickled(images, labels, **changes):
    values = {"batch_label": "some batch", "labels": labels.tolist(), "data": stored(images)} | changes
    return pickle.dumps({key.encode(): value for key, value in values.items()}, 2)


def binary(images, labels):
    return np.concatenate([labels[:, np.newaxis].astype(np.uint8), stored(images)], axis=1).tobytes()


FORMS = {
    "python": (python_2_pickle, "cifar-10-batches-py", ""),
    "python written anew": (pickled, "cifar-10-batches-py", ""),
    "binary": (binary, "cifar-10-batches-bin", ".bin"),
}


def write(folder, form="python"):
    """Writes five batches and the test batch; returns the folder that they are in."""
    encode, name, ending = FORMS[form]
    (folder / name).mkdir()
    for number, file in enumerate(NAMES):
        (folder / name / (file + ending)).write_bytes(encode(*batch(number)))
    (folder / name / "readme.html").write_text("hello")
    return folder / name


@pytest.fixture(scope="module", params=FORMS)
def path(request, tmp_path_factory):
    return write(tmp_path_factory.mktemp("cifar"), request.param)


def test_all_images_are_read_in_their_order(path):
    images, labels = load_cifar10(path, "train")
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    images, labels = load_cifar10(str(path), "test")
    np.testing.assert_array_equal(images, batch(5)[0])
    np.testing.assert_array_equal(labels, batch(5)[1])


def test_a_part_and_another_name_of_a_split(path):
    np.testing.assert_array_equal(load_cifar10(path, "train[-25%:]")[0], IMAGES[15:])
    np.testing.assert_array_equal(load_cifar10(path, "validation")[0], batch(5)[0])


def test_the_folder_above_and_the_archive_will_do(path, tmp_path):
    np.testing.assert_array_equal(load_cifar10(path.parent, "train")[0], IMAGES)
    archive = tmp_path / "cifar-10.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(path, path.name)
    np.testing.assert_array_equal(load_cifar10(archive, "train")[0], IMAGES)
    assert cifar.is_cifar10(str(archive))
    assert cifar.is_cifar10(str(path))
    assert cifar.is_cifar10(str(path.parent))
    assert not cifar.is_cifar10(str(tmp_path))


def test_the_pickle_made_here_is_one_that_numpy_understands():
    """Otherwise the tests above would show no more than that two things of ours agree."""
    images, labels = batch(0)
    values = pickle.loads(python_2_pickle(images, labels), encoding="bytes")
    np.testing.assert_array_equal(values[b"data"], stored(images))
    assert values[b"labels"] == labels.tolist()


def test_a_remote_folder_will_do(path):
    gfile = pytest.importorskip("tensorflow").io.gfile
    remote = f"ram://cifar/{path.parent.name}"
    gfile.makedirs(remote)
    for file in path.iterdir():
        with gfile.GFile(f"{remote}/{file.name}", "wb") as copy:
            copy.write(file.read_bytes())
    np.testing.assert_array_equal(load_cifar10(remote, "train")[0], IMAGES)
    gfile.rmtree(remote)


def test_missing_files_are_named(path, tmp_path):
    with pytest.raises(ValueError, match=r"no CIFAR-10.*cs\.toronto\.edu.*Received"):
        load_cifar10(tmp_path, "train")
    with pytest.raises(ValueError, match="no CIFAR-10"):
        load_cifar10(tmp_path / "nothing", "train")
    ending = path.glob("test_batch*").__next__().suffix
    for name in NAMES[:3]:
        (tmp_path / (name + ending)).write_bytes((path / (name + ending)).read_bytes())
    with pytest.raises(ValueError, match=r"not complete.*data_batch_4.*data_batch_5.*Received"):
        load_cifar10(tmp_path, "train")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lambda images, labels: pickled(images, labels)[:-1000], "damaged: data_batch_1"),
        (lambda images, labels: pickled(images, labels + 7), "labels from"),
        (lambda images, labels: pickled(images, labels, data=stored(images).astype(np.float32)), "not bytes but"),
        (lambda images, labels: pickled(images, labels, data=[1, 2]), "damaged"),
        (lambda images, labels: pickle.dumps([1, 2], 2), "damaged"),
        (lambda images, labels: b"", "damaged"),
        (lambda images, labels: gzip.compress(b"abc"), "damaged"),
        (lambda images, labels: pickle.dumps(Path("/"), 2), "names pathlib"),
        (lambda images, labels: b"cos\nsystem\n(S'echo owned > owned'\ntR.", "names os.system"),
        (lambda images, labels: b"cbuiltins\neval\n(S'1'\ntR.", "names builtins.eval"),
        (lambda images, labels: b"cnumpy\nload\n(S'x'\ntR.", "names numpy.load"),
        # The unpickler would make room for four billion objects.
        (lambda images, labels: b"\x80\x02}r\xff\xff\xff\xffu.", "memo jumps to 4294967295"),
    ],
)
def test_damage_and_malice_are_refused(tmp_path, monkeypatch, content, complaint):
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path)
    (folder / "data_batch_1").write_bytes(content(*batch(0)))
    with pytest.raises(ValueError, match=complaint):
        load_cifar10(folder, "train")
    assert not (tmp_path / "owned").exists()


def test_binary_files_of_another_length_are_refused(tmp_path):
    folder = write(tmp_path, "binary")
    (folder / "data_batch_3.bin").write_bytes(binary(*batch(3))[:-1])
    with pytest.raises(ValueError, match=r"damaged: data_batch_3\.bin"):
        load_cifar10(folder, "train")


@pytest.fixture(scope="module")
def damaged_folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("damaged"))


OPCODES = [ord(opcode.code) for opcode in pickletools.opcodes]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_pickle_is_read_or_refused_and_nothing_else(damaged_folder, data):
    """Bytes changed outside of the pixels, where every byte means something; or the file cut anywhere."""
    good = python_2_pickle(*batch(0, count=2))
    pixels = good.index(stored(batch(0, count=2)[0]).tobytes())
    places = st.one_of(st.integers(0, pixels - 1), st.integers(pixels + 2 * 3072, len(good) - 1))
    bad = bytearray(good)
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        bad[place] = data.draw(
            st.integers(0, 255) | st.sampled_from([ord(opcode.code) for opcode in pickletools.opcodes])
        )
    (damaged_folder / "test_batch").write_bytes(bad[: data.draw(st.integers(0, len(bad)) | st.just(len(bad)))])
    try:
        images, labels = load_cifar10(damaged_folder, "test")
    except ValueError as error:
        assert "test_batch" in str(error)
    else:
        assert images.shape[1:] == (32, 32, 3)
        assert labels.ndim == 1


@pytest.fixture(scope="module")
def prepared():
    if not SHARED.exists():
        pytest.skip("CIFAR-10 as tfds prepares it does not lie in ../shared/data")
    return SHARED


def test_what_tfds_has_prepared(prepared):
    """Against the numbers that are known of CIFAR-10, and tfds's own order and pixels."""
    images, labels = load_cifar10(prepared, "test")
    assert images.shape == (10000, 32, 32, 3)
    assert np.bincount(labels).tolist() == [1000] * 10
    tfds = pytest.importorskip("tensorflow_datasets")
    theirs = tfds.load("cifar10", split="test[:200]", data_dir=prepared, download=False, as_supervised=True)
    theirs_images, theirs_labels = zip(*theirs.as_numpy_iterator())
    np.testing.assert_array_equal(images[:200], theirs_images)
    np.testing.assert_array_equal(labels[:200], theirs_labels)


def test_the_mean_of_the_training_images_is_the_known_one(prepared):
    images, labels = load_cifar10(prepared / "cifar10" / "3.0.2", "train")
    assert np.bincount(labels).tolist() == [5000] * 10
    np.testing.assert_allclose(images.mean(axis=(0, 1, 2)) / 255, [0.49140, 0.48216, 0.44653], atol=1e-5)


def test_tensorflow_is_not_needed(tmp_path):
    """From when Keras has been imported, which brings TensorFlow where that is its backend."""
    folder = write(tmp_path)
    code = f"""
import keras_resnet, sys
sys.modules.update(dict.fromkeys(["tensorflow", "tensorflow_datasets", "keras_cv"]))
from keras_resnet.data.cifar import load_cifar10
print(load_cifar10({str(folder)!r}, "train")[0].shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "(20, 32, 32, 3)", done.stderr
