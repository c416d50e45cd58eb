"""The orders in which examples are read, of a table and of shards alike."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from keras_resnet.data.storage import Shard, Shards, Source, Table

tf = pytest.importorskip("tensorflow")

COUNT = 37


def parse(record):
    """Records here are their own numbers, as text; an image is the record, its label the number."""
    return record, tf.strings.to_number(record, tf.int64)


@pytest.fixture(scope="module", params=["table", "files", "shards"])
def source(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    contents = [str(number).encode() for number in range(COUNT)]
    if request.param == "table":
        storage = Table(np.array(contents, object), np.arange(COUNT))
    elif request.param == "files":
        for content in contents:
            (folder / content.decode()).write_bytes(content)
        paths = [str(folder / content.decode()) for content in contents]
        storage = Table(np.array(paths, object), np.arange(COUNT), are_paths=True)
    else:
        rest, shards = iter(contents), []
        for size in (5, 1, 20, 11):
            path = str(folder / f"{size}.tfrecord")
            with tf.io.TFRecordWriter(path) as writer:
                for content in itertools.islice(rest, size):
                    writer.write(content)
            shards.append(Shard(path, 0, size))
        storage = Shards(tuple(shards), parse)
    return Source("mine", "train", tuple(map(str, range(COUNT))), storage)


def labels(dataset, count=None):
    """The labels of a dataset, whose images are checked to be theirs."""
    pairs = list(dataset.take(-1 if count is None else count).as_numpy_iterator())
    assert [int(image) for image, _ in pairs] == [label for _, label in pairs]
    return [int(label) for _, label in pairs]


def test_in_order_once(source):
    dataset = source.dataset()
    assert labels(dataset) == list(range(COUNT))
    assert int(dataset.cardinality()) == COUNT == source.num_examples == source.num_classes
    image, label = dataset.element_spec
    assert (image.shape, image.dtype, label.shape, label.dtype) == ((), tf.string, (), tf.int64)


def test_each_epoch_of_a_stream_has_each_example_once_in_an_order_of_its_own(source):
    epochs = np.reshape(labels(source.stream(seed=3), 4 * COUNT), (4, COUNT))
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(COUNT), (4, 1)))
    for one, other in itertools.combinations([*epochs, np.arange(COUNT)], 2):
        assert (one == other).sum() < COUNT / 3


def test_a_stream_goes_on_where_another_ended(source):
    whole = labels(source.stream(seed=3), 3 * COUNT)
    for start in (0, 1, 17, COUNT - 1, COUNT, COUNT + 1, 2 * COUNT + 5):
        assert labels(source.stream(seed=3, start=start), 3 * COUNT - start) == whole[start:]


def test_a_stream_is_its_seeds_alone(source):
    try:
        tf.random.set_seed(1)
        first = labels(source.stream(seed=3), 2 * COUNT)
        tf.random.set_seed(2)
        assert labels(source.stream(seed=3), 2 * COUNT) == first
    finally:
        tf.random.set_seed(0)
    others = [labels(source.stream(seed), 2 * COUNT) for seed in (4, 0, -1, 2**30 - 1, 2**40)]
    for one, other in itertools.combinations([first, *others], 2):
        assert one != other


def test_orders_of_a_stream_have_nothing_to_do_with_one_another():
    """As far as correlations tell: twenty orders of 5000 examples, by epoch and by seed."""
    table = Table(np.zeros((5000, 1), np.uint8), np.arange(5000))
    dataset = table.stream(1, 0, 0).batch(5000).map(lambda _, image, label: label)
    orders = [*dataset.take(10).as_numpy_iterator()]
    for seed in range(2, 12):
        orders.append(next(iter(table.stream(seed, 0, 0).batch(5000).map(lambda _, image, label: label))).numpy())
    between = np.corrcoef(orders)[np.triu_indices(20, 1)]
    assert np.abs(between).max() < 5 / np.sqrt(5000)
    assert abs(between.mean()) < 5 / np.sqrt(5000 * len(between))


def test_shards_are_shuffled_as_a_whole_within_the_buffer(source):
    if source.random_access:
        pytest.skip("there is no buffer")
    narrow = labels(source.stream(seed=3, buffer=2), COUNT)
    assert sorted(narrow) == list(range(COUNT))
    assert narrow != labels(source.stream(seed=3), COUNT)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, COUNT))
def test_shares_are_equal_and_make_up_the_whole(source, count):
    shares = [source.share(index, count) for index in range(count)]
    sizes = [share.num_examples for share in shares]
    assert sum(sizes) == COUNT
    assert max(sizes) - min(sizes) <= 1
    if count <= 3:
        assert [label for share in shares for label in labels(share.dataset())] == list(range(COUNT))
        assert sorted(labels(shares[-1].stream(seed=1), sizes[-1])) == labels(shares[-1].dataset())


@pytest.mark.parametrize(("index", "count"), [(0, 0), (2, 2), (-1, 2), (0, COUNT + 1)])
def test_shares_that_do_not_exist_are_refused(source, index, count):
    with pytest.raises(ValueError, match="Received: index="):
        source.share(index, count)


def test_in_memory_is_the_same_with_random_access(source):
    loaded = source.in_memory()
    assert loaded.random_access
    assert labels(loaded.dataset()) == list(range(COUNT))
    assert not loaded.storage.are_paths
    assert (loaded.name, loaded.split, loaded.class_names) == (source.name, source.split, source.class_names)


def test_bytes_with_zeros_at_the_end_are_kept():
    """An array of numpy's own strings would lose them."""
    table = Table(np.array([b"a\0\0", b"\0"], object), np.arange(2))
    assert [image for _, image, _ in table.examples().as_numpy_iterator()] == [b"a\0\0", b"\0"]


def test_arrays_stay_arrays():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 3), np.uint8)
    source = Source("mine", "train", ("a",), Table(images, np.zeros(5, int)), encoded=False)
    assert source.dataset().element_spec[0] == tf.TensorSpec((4, 3, 3), tf.uint8)
    np.testing.assert_array_equal([image for image, _ in source.dataset().as_numpy_iterator()], images)
    assert source.in_memory().storage is source.storage
    assert repr(source) == "Source(name='mine', split='train', encoded=False)"


def test_a_wrong_count_is_an_error_and_not_a_shorter_epoch(tmp_path):
    path = str(tmp_path / "two.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b"0")
        writer.write(b"1")
    with pytest.raises(tf.errors.FailedPreconditionError, match="expected to contain 3"):
        list(Shards((Shard(path, 0, 3),), parse).examples())
