"""Batches: exact counts, the same on any number of threads, after a resume, on several workers; bad images."""

import base64
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from keras_resnet.data import augmentation, pipeline
from keras_resnet.data.sources import Source
from keras_resnet.data.storage import Shard, Shards, Table

STACK = augmentation.paper_imagenet(16, low=18, high=24)
CENTRE = (augmentation.Resize(18), augmentation.CenterCrop(16))


def encoded(count):
    """Encoded images of different sizes."""
    random = np.random.default_rng(0)
    images = np.empty(count, object)
    for i in range(count):
        pixels = random.integers(0, 256, (24 + i % 5, 30 - i % 7, 3), dtype="uint8")
        images[i] = tf.io.encode_png(pixels).numpy()
    return images


def source(count, classes=3, bad=()):
    """A table of images, whose label tells their number as far as it can."""
    images = encoded(count)
    images[list(bad)] = b"no image"
    return Source("mine", "train", tuple(map(str, range(classes))), Table(images, np.arange(count) % classes))


def on_disk(kind, folder, count=24, bad=(5,)):
    """The same images as files, or as records; each is its own class."""
    images = encoded(count)
    images[list(bad)] = b"no image"
    classes = tuple(map(str, range(count)))
    if kind == "files":
        paths = np.array([str(folder / f"{i}.png") for i in range(count)], object)
        for path, image in zip(paths, images):
            Path(path).write_bytes(image)
        return Source("mine", "train", classes, Table(paths, np.arange(count), are_paths=True))
    shards = []
    for number, rows in enumerate((range(10), range(10, count))):
        path = str(folder / f"{number}.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:
            for i in rows:
                writer.write(f"{i} {base64.b64encode(images[i]).decode()}".encode())
        shards.append(Shard(path, 0, len(rows)))

    def parse(record):
        label, image = tf.unstack(tf.strings.split(record, " "), 2)
        image = tf.strings.regex_replace(tf.strings.regex_replace(image, r"\+", "-"), "/", "_")
        return tf.io.decode_base64(tf.strings.regex_replace(image, "=", "")), tf.strings.to_number(label, tf.int64)

    return Source("mine", "train", classes, Shards(tuple(shards), parse))


@given(count=st.integers(1, 23), batch_size=st.integers(1, 9))
@settings(max_examples=8, deadline=None)
def test_evaluation_sees_each_example_once(count, batch_size):
    batches = list(pipeline.evaluation(source(count), CENTRE, batch_size).as_numpy_iterator())
    assert {len(weights) for _, _, weights in batches} == {batch_size}
    weights = np.concatenate([weights for _, _, weights in batches])
    labels = np.concatenate([labels for _, labels, _ in batches])
    np.testing.assert_array_equal(weights, np.arange(len(weights)) < count)
    np.testing.assert_array_equal(labels[:count], np.arange(count) % 3)


def batches(count=10, examples=None, stack=STACK, **arguments):
    dataset = pipeline.training(examples or source(20), stack, batch_size=4, seed=5, **arguments)
    return list(dataset.take(count).as_numpy_iterator())


def assert_same(one, other):
    for (images, labels), (others, other_labels) in zip(one, other, strict=True):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, other_labels)


def test_training_is_a_function_of_seed_and_step():
    whole = batches(12)
    assert_same(whole, batches(12, threads=1))
    assert_same(whole[7:], batches(5, start_step=7))
    assert whole[0][0].shape == (4, 16, 16, 3)
    first, second = (np.concatenate([labels for _, labels in whole[i : i + 5]]) for i in (0, 5))
    np.testing.assert_array_equal(np.bincount(first), np.bincount(second))  # an epoch has each example once
    assert not np.array_equal(first, second)


def test_workers_together_make_the_batches_of_one(capfd):
    examples = source(20, classes=20, bad=[3])
    shares = [batches(6, examples, share=(index, 2), bad_share=0.5) for index in range(2)]
    together = [tuple(map(np.concatenate, zip(*workers))) for workers in zip(*shares)]
    assert_same(together, batches(6, examples, bad_share=0.5))
    halves = [list(pipeline.evaluation(source(7), CENTRE, 4, share=(index, 2))) for index in range(2)]
    joined = [[np.concatenate(columns) for columns in zip(*workers)] for workers in zip(*halves)]
    for parts, whole in zip(joined, pipeline.evaluation(source(7), CENTRE, 4), strict=True):
        for part, column in zip(parts, whole, strict=True):
            np.testing.assert_array_equal(part, column)
    with pytest.raises(ValueError, match="must divide the batch"):
        batches(share=(0, 3))


@pytest.mark.parametrize("kind", ["files", "records"])
def test_bad_images_are_replaced_named_and_counted(kind, tmp_path, capfd):
    examples = on_disk(kind, tmp_path)
    whole = batches(12, examples, bad_share=0.05)  # two epochs
    told = capfd.readouterr().err
    assert told.count("Cannot be decoded") >= 2  # batches are made ahead
    assert "So far (count, of examples): 2 " in told
    assert {"files": "5.png", "records": "record 5 (from 0) of"}[kind] in told
    labels = np.concatenate([labels for _, labels in whole])
    assert 5 not in labels
    for epoch in (labels[:24], labels[24:]):
        assert len(set(epoch)) == 23  # one stands twice
    assert_same(whole[7:], batches(5, examples, start_step=7, bad_share=0.05))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Stopped: more than 0\.01"):
        batches(7, examples)
    with pytest.raises(tf.errors.InvalidArgumentError, match={"files": "5.png", "records": "record 5"}[kind]):
        list(pipeline.evaluation(examples, CENTRE, 4))


def test_nothing_but_bad_images():
    with pytest.raises(tf.errors.InvalidArgumentError, match="Cannot be decoded, or does not fit"):
        batches(1, source(4, bad=range(4)), bad_share=1.0)


@pytest.mark.parametrize("kind", ["files", "records"])
def test_workers_of_the_tf_data_service(kind, tmp_path):
    """Two of them: an example has the draws that it has without them, and an epoch has each example once."""
    examples = on_disk(kind, tmp_path, bad=())
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer(service.DispatcherConfig(protocol="grpc"))
    address = dispatcher.target.split("://")[1]
    workers = [service.WorkerServer(service.WorkerConfig(dispatcher_address=address)) for _ in range(2)]
    served = drawn(batches(24, examples, service=dispatcher.target))  # four epochs' worth
    assert len(workers) == 2
    assert len({(label, image.tobytes()) for label, image in served}) == 96  # no example comes twice in an epoch
    expected = drawn(batches(150, examples))
    for label, image in served:  # the same, but for the last digit: a worker's graph is put together otherwise
        assert min(np.abs(image - other).max() for same, other in expected if same == label) < 1e-3


def drawn(made):
    return [(label, image) for images, labels in made for image, label in zip(images, labels)]


def test_labels_are_mixed_where_the_stack_mixes():
    stack = (*augmentation.paper_imagenet(16, low=18, high=24), augmentation.MixUp(1.0))
    _, labels = next(iter(pipeline.training(source(20), stack, 4, seed=0, one_hot=True)))
    assert labels.shape == (4, 3)
    np.testing.assert_allclose(np.sum(labels, axis=1), 1, rtol=1e-6)
    assert 0 < np.max(labels) < 1 or np.unique(labels).size > 2
    with pytest.raises(ValueError, match="one-hot"):
        pipeline.training(source(20), stack, 4, seed=0)


def test_bytes_and_a_front_are_the_stack():
    host, device = augmentation.for_device(augmentation.paper_imagenet(16, 18, 24, sigma=0.0))
    network = augmentation.front(device, (16, 16, 3))
    whole = batches(3, stack=augmentation.paper_imagenet(16, 18, 24, sigma=0.0))
    for (images, _), (expected, _) in zip(batches(3, stack=host), whole, strict=True):
        assert images.dtype == np.uint8
        np.testing.assert_allclose(network(images), expected, atol=0.51)


@pytest.mark.parametrize("size", [16, 80])
def test_a_cache_in_memory_changes_nothing(size):
    images = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), dtype="uint8")
    table = Table(np.array([tf.io.encode_png(image).numpy() for image in images], object), np.arange(8) % 3)
    examples = Source("mine", "train", ("a", "b", "c"), table)
    stack = augmentation.cifar(size=size)
    assert_same(batches(4, examples, stack), batches(4, examples, stack, cache="memory"))
    assert pipeline.cached(examples, "memory").encoded == (size > 64)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the process's memory is read from Linux's /proc")
def test_memory_stays_flat():
    """Over ten epochs, of which one alone makes 77 MB of images."""

    def megabytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    examples = source(512)
    batches = iter(pipeline.training(examples, augmentation.paper_imagenet(224, 230, 240), 32, seed=0))
    used = []
    for _ in range(10):
        for _ in range(512 // 32):
            next(batches)
        used.append(megabytes())
    assert max(used[5:]) - min(used[2:5]) < 77


def test_no_iterator_waits_for_the_autotuner():
    for dataset in (
        pipeline.training(source(20), STACK, batch_size=4, seed=5),
        pipeline.evaluation(source(20), CENTRE, batch_size=4),
    ):
        assert dataset.options().autotune.enabled is False
