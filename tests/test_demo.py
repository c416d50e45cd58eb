"""The demo set: what it is made of, that it is made once and alone, and that it is no matter for a linear model."""

import random
import socket

import numpy as np
import pytest

from keras_resnet.data.sources import open_source

tf = pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")
demo = pytest.importorskip("keras_resnet.data.demo")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """The whole set, made without a network."""

    def refuse(*arguments, **options):
        raise AssertionError("nothing here may reach the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        folder = tmp_path_factory.mktemp("tfds")
        demo.prepare(folder)
    return folder


@pytest.fixture
def small(monkeypatch):
    """A set of few examples, for what it takes to make a set anew."""
    monkeypatch.setattr(demo, "SIZES", {"train": 20, "test": 10})


def pixels(image, size=32):
    return np.ravel(tf.image.resize(image, (size, size), antialias=True)) / 127.5 - 1


@pytest.fixture(scope="module")
def splits(data_dir):
    """The images, small and flat, and the labels of both splits."""
    loaded = {}
    for split in ("train", "test"):
        images, labels = zip(*open_source("demo", split, data_dir=data_dir).dataset().as_numpy_iterator())
        loaded[split] = np.stack([pixels(tf.io.decode_jpeg(image)) for image in images]), np.array(labels)
    return loaded


def test_the_set(data_dir):
    assert len(demo.CLASS_NAMES) == 10
    for split, count in (("train", 2000), ("test", 500)):
        source = open_source("demo", split, data_dir=data_dir)
        assert (source.num_examples, source.class_names) == (count, demo.CLASS_NAMES)
        images, labels = zip(*source.dataset().as_numpy_iterator())
        assert np.bincount(labels).tolist() == [count // 10] * 10
        assert all(tf.io.is_jpeg(image) for image in images)
        assert len(set(images)) == count
        sizes = np.array([tf.io.extract_jpeg_shape(image) for image in images])
        assert set(sizes[:, 2]) == {3}
        short, long = sizes[:, :2].min(axis=1), sizes[:, :2].max(axis=1)
        assert 96 <= short.min() < 100 < 190 < short.max() <= 200
        assert 1 <= (long / short).min() < 1.05 < 1.55 < (long / short).max() <= 1.6
        assert 0.25 < np.mean(sizes[:, 0] > sizes[:, 1]) < 0.42


def test_the_set_is_a_dataset_of_tfds(data_dir):
    dataset, info = tfds.load(
        "keras_resnet_demo", split="test", data_dir=data_dir, download=False, as_supervised=True, with_info=True
    )
    assert info.features["label"].names == list(demo.CLASS_NAMES)
    image, label = next(iter(dataset))
    assert (image.dtype, image.shape[2], label.dtype) == (tf.uint8, 3, tf.int64)


@pytest.mark.parametrize("name", demo.CLASS_NAMES)
def test_a_picture_is_a_function_of_its_number(name):
    label = demo.CLASS_NAMES.index(name)
    for split in demo.SIZES:
        image, found = demo.example(split, 30 + label)
        assert found == label
        assert (image.dtype, image.ndim, image.flags.c_contiguous) == (np.uint8, 3, True)
        np.random.seed(label)
        np.testing.assert_array_equal(demo.example(split, 30 + label)[0], image)
        assert image.std() > 15
    train, test = (demo.example(split, label)[0] for split in ("train", "test"))
    assert train.shape != test.shape or (train != test).any()


def test_the_pictures_are_these_and_no_others():
    """If this fails, the set is another one: raise its version."""
    expected = {0: ((202, 179, 3), 180.51), 1: ((205, 133, 3), 136.08), 17: ((197, 309, 3), 131.43)}
    for index, (shape, mean) in expected.items():
        image, _ = demo.example("train", index)
        assert image.shape == shape
        assert image.mean() == pytest.approx(mean, abs=0.05)


def test_what_is_stored_is_what_is_drawn(data_dir):
    """JPEG leaves a few grey levels of difference; the order is tfds's."""
    drawn = {demo.example("test", index)[0].shape: index for index in range(500)}
    errors = []
    for image, label in open_source("demo", "test", data_dir=data_dir).dataset().take(50).as_numpy_iterator():
        decoded = tf.io.decode_jpeg(image).numpy().astype(int)
        original, original_label = demo.example("test", drawn[decoded.shape])
        if original_label == label:
            errors.append(np.abs(decoded - original).mean())
    assert len(errors) > 30
    assert np.median(errors) < 5


def test_it_is_made_once_and_says_so(small, tmp_path, capsys):
    first = demo.prepare(tmp_path)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [f"Making the demo set: 30 pictures, once, in {first.data_dir}"]
    assert demo.prepare(str(tmp_path)).info.splits["train"].num_examples == 20
    assert capsys.readouterr() == ("", "")
    assert [path.name for path in (tmp_path / "keras_resnet_demo").iterdir()] == ["1.0.0"]


def test_two_who_make_it_at_once_do_not_meet(small, tmp_path, monkeypatch):
    """While one is about to give the set its name another does; both had set the same seed before."""
    make = demo.KerasResnetDemo.download_and_prepare
    made_in = []

    def make_while_another_does(self, **options):
        if len(made_in) < 2:
            made_in.append(self.data_dir)
            random.seed(0)
            if len(made_in) == 1:
                demo.prepare(tmp_path)
        random.seed(0)
        make(self, **options)

    monkeypatch.setattr(demo.KerasResnetDemo, "download_and_prepare", make_while_another_does)
    builder = demo.prepare(tmp_path)
    assert len(set(made_in)) == 2
    assert builder.info.splits["test"].num_examples == 10
    assert len(list(builder.as_dataset(split="train"))) == 20
    assert [path.name for path in (tmp_path / "keras_resnet_demo").iterdir()] == ["1.0.0"]


def test_what_fails_leaves_nothing_behind(small, tmp_path, monkeypatch):
    def fail(split, index):
        raise MemoryError("no room for a picture")

    with monkeypatch.context() as patch:
        patch.setattr(demo, "example", fail)
        with pytest.raises(MemoryError, match="no room"):
            demo.prepare(tmp_path)
    assert not list((tmp_path / "keras_resnet_demo").iterdir())
    assert demo.prepare(tmp_path).info.splits["train"].num_examples == 20


def test_it_is_not_made_where_renaming_is_not_one_step():
    with pytest.raises(ValueError, match=r"local disk.*Received: data_dir='gs://bucket/data'"):
        demo.prepare("gs://bucket/data")


def logistic_regressions(images, labels, steps=120):
    """Yields the weights at every step of Nesterov's gradient descent on the cross-entropy: the fewer, the smaller."""
    images = np.c_[images, np.ones(len(images))].astype(np.float32)
    direction = images[0]
    for _ in range(10):  # towards the direction in which the images vary most, which bounds the curvature
        direction = images.T @ (images @ direction)
        direction /= np.linalg.norm(direction)
    rate = 2 * len(images) / np.linalg.norm(images @ direction) ** 2
    targets = np.eye(labels.max() + 1, dtype=np.float32)[labels]
    weights = ahead = np.zeros((images.shape[1], targets.shape[1]), np.float32)
    for step in range(steps):
        scores = images @ ahead
        softmax = np.exp(scores - scores.max(axis=1, keepdims=True))
        softmax /= softmax.sum(axis=1, keepdims=True)
        last, weights = weights, ahead - rate / len(images) * (images.T @ (softmax - targets))
        ahead = weights + step / (step + 3) * (weights - last)
        yield weights


def accuracy(weights, images, labels):
    return np.mean(np.argmax(images @ weights[:-1] + weights[-1], axis=1) == labels)


def test_a_linear_model_of_the_pixels_learns_next_to_nothing(splits):
    models = list(logistic_regressions(*splits["train"]))
    assert accuracy(models[-1], *splits["train"]) > 0.4  # it does fit what it has seen
    assert max(accuracy(weights, *splits["test"]) for weights in models[::10]) <= 0.25


def test_the_linear_model_above_does_learn_what_is_linear(splits):
    """Otherwise the test above would show nothing: the same model tells the brighter pictures from the darker."""
    brightness = {split: images.mean(axis=1) for split, (images, _) in splits.items()}
    middle = np.median(brightness["train"])
    labels = {split: (values > middle).astype(int) for split, values in brightness.items()}
    *_, weights = logistic_regressions(splits["train"][0], labels["train"])
    assert accuracy(weights, splits["test"][0], labels["test"]) > 0.9


def test_simple_statistics_do_not_tell_the_classes(splits):
    """Mean colour and its spread: a nearest class by these must not do much better than chance."""
    train, test = (
        np.c_[images.reshape(-1, 1024, 3).mean(axis=1), images.reshape(-1, 1024, 3).std(axis=1)]
        for images in (splits["train"][0], splits["test"][0])
    )
    scale = train.std(axis=0)
    distances = np.linalg.norm((test / scale)[:, np.newaxis] - (train / scale), axis=2)
    nearest = splits["train"][1][np.argsort(distances, axis=1)[:, :15]]
    votes = np.array([np.bincount(row, minlength=10).argmax() for row in nearest])
    assert np.mean(votes == splits["test"][1]) <= 0.4
