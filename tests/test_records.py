"""TFRecord files and examples read without TensorFlow, against what TensorFlow writes."""

import pytest
from hypothesis import given, settings, strategies as st

from keras_resnet.data import records

tf = pytest.importorskip("tensorflow")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "some.tfrecord")


def write(path, payloads):
    with tf.io.TFRecordWriter(path) as writer:
        for payload in payloads:
            writer.write(payload)
    return path


@pytest.mark.parametrize("payloads", [[], [b""], [b"a"], [b"", b"bc", b"d" * 100_000, b""]])
def test_records_are_those_written(path, payloads):
    write(path, payloads)
    assert records.count_records(path) == len(payloads)
    with open(path, "rb") as file:  # noqa: PTH123
        assert list(records.split_records(file.read())) == payloads


def test_a_remote_file_is_counted(path):
    remote = "ram://records/some.tfrecord"
    write(remote, [b"a", b"bcd"])
    assert records.count_records(remote) == 2


@pytest.mark.parametrize("left", [1, 11, 12, 14, 17, 28, 30, 34])
def test_a_file_cut_short_is_refused(path, left):
    """Two records of one byte take 17 bytes each; what is left ends within one, save at 17 and 34."""
    write(path, [b"a", b"b"])
    with tf.io.gfile.GFile(path, "rb") as file:
        data = file.read()[:left]
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(data)
    if left in (17, 34):
        assert records.count_records(path) == len(list(records.split_records(data))) == left // 17
        return
    with pytest.raises(ValueError, match=r"cut short.*Received"):
        records.count_records(path)
    with pytest.raises(ValueError, match="cut short"):
        list(records.split_records(data))


def test_a_compressed_file_is_refused(path):
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        writer.write(b"abc" * 100)
    with pytest.raises(ValueError, match="compressed"):
        records.count_records(path)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=20),
        st.lists(st.binary(max_size=300), min_size=1) | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1),
    )
)
def test_examples_are_those_serialised(values):
    features = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
        if isinstance(value[0], bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        for key, value in values.items()
    }
    features["left out"] = tf.train.Feature(float_list=tf.train.FloatList(value=[1.5, 2.5]))
    features["nothing"] = tf.train.Feature()
    payload = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    assert records.parse_example(payload) == values | {"left out": [], "nothing": []}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_anything_else_is_refused_or_read_but_does_not_crash(payload):
    try:
        features = records.parse_example(payload)
    except ValueError:
        return
    assert isinstance(features, dict)
