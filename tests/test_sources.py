"""One door: what it takes for a name and what for a path, and tfds's own sets through it."""

import shlex
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest
from test_cifar import IMAGES, LABELS, write as write_cifar

from keras_resnet.data import sources, splits
from keras_resnet.data.sources import open_source

tf = pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")
demo = pytest.importorskip("keras_resnet.data.demo")

SHARED = Path(__file__).parents[2] / "shared" / "data" / "tensorflow_datasets"
SIZE = 120


class Squares(tfds.core.GeneratorBasedBuilder):
    """A tfds set of photographs' kind, in several shards, with more than one label."""

    VERSION = tfds.core.Version("1.2.3")

    def _info(self):
        features = {
            "picture": tfds.features.Image(encoding_format="png"),
            "fine": tfds.features.ClassLabel(names=["red", "green", "blue"]),
            "coarse": tfds.features.ClassLabel(num_classes=2),
            "id": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("picture", "fine")
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(SIZE), "test": self._generate_examples(7)}

    def _generate_examples(self, count):
        for number in range(count):
            image = np.full((4 + number % 3, 5, 3), number, np.uint8)
            yield number, {"picture": image, "fine": number % 3, "coarse": number % 2, "id": str(number)}


class Boxes(Squares):
    """A set without a class for its images."""

    def _info(self):
        features = {"image": tfds.features.Image(), "boxes": tfds.features.Sequence(tfds.features.BBoxFeature())}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A tfds data folder with the set `squares` in it."""
    folder = tmp_path_factory.mktemp("tfds")
    builder = Squares(data_dir=folder)
    config = tfds.download.DownloadConfig(num_shards=4, try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    assert builder.info.splits["train"].num_shards == 4
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("nothing here may reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def examples(source):
    return list(source.dataset().as_numpy_iterator())


def test_a_set_of_tfds_by_name(data_dir):
    source = open_source("squares", "train", data_dir=data_dir)
    assert (source.name, source.split, source.encoded) == ("squares", "train", True)
    assert (source.num_examples, source.num_classes, source.class_names) == (SIZE, 3, ("red", "green", "blue"))
    pictures, labels = zip(*examples(source))
    theirs = tfds.builder("squares", data_dir=data_dir).as_dataset(
        split="train", as_supervised=True, read_config=tfds.ReadConfig(interleave_cycle_length=1)
    )
    for picture, label, (their_picture, their_label) in zip(pictures, labels, theirs.as_numpy_iterator()):
        assert picture.startswith(b"\x89PNG")
        np.testing.assert_array_equal(tf.io.decode_png(picture), their_picture)
        assert label == their_label


@pytest.mark.parametrize("split", ["train[:90%]", "train[90%:]", "train[10:50]", "train[-25%:]", "test[:3]"])
def test_parts_of_a_set_are_those_of_tfds(data_dir, split):
    source = open_source("squares", split, data_dir=data_dir)
    assert source.split == split
    theirs = tfds.builder("squares", data_dir=data_dir).as_dataset(
        split=split, read_config=tfds.ReadConfig(interleave_cycle_length=1)
    )
    assert source.num_examples == len(theirs)
    assert [label for _, label in examples(source)] == [int(example["fine"]) for example in theirs]


def test_a_stream_of_shards_resumes(data_dir):
    source = open_source("squares", "train[5:]", data_dir=data_dir)
    whole = [image for image, _ in source.stream(seed=1).take(2 * source.num_examples).as_numpy_iterator()]
    rest = [image for image, _ in source.stream(seed=1, start=50).take(100).as_numpy_iterator()]
    assert rest == whole[50:150]
    assert sorted(whole[: source.num_examples]) == sorted(image for image, _ in examples(source))


def test_validation_is_what_there_is_to_validate_on(data_dir):
    assert open_source("squares", "validation", data_dir=data_dir).split == "test"


def test_the_folder_of_a_version(data_dir):
    source = open_source(data_dir / "squares" / "1.2.3", "test")
    assert (source.num_examples, source.class_names) == (7, ("red", "green", "blue"))


def command_of(error):
    """The arguments of the command in an error message."""
    (line,) = (line for line in str(error.value).splitlines() if line.startswith("python "))
    return shlex.split(line)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "tf_flowers", "imagenet_resized/32x32", "cifar10:3.0.2"])
def test_absent_data_answers_with_the_command_that_prepares_it(tmp_path, name):
    folder = tmp_path / "my data"
    with pytest.raises(FileNotFoundError, match="Nothing is downloaded unless you say so") as error:
        open_source(name, "train", data_dir=folder)
    assert not folder.exists()
    _, option, code = command_of(error)
    assert option == "-c"
    assert code.endswith(".download_and_prepare()")
    prepared = {}
    exec(code.removesuffix(".download_and_prepare()").replace("tfds.builder", "builder = tfds.builder"), prepared)
    assert prepared["builder"].data_dir.startswith(str(folder))
    assert prepared["builder"].info.full_name.startswith(name.replace(":", "/"))


def test_what_is_tested_on_is_not_trained_on(data_dir, tmp_path):
    def splits_of(*arguments):
        return [source.split for source in sources.open_pair(*arguments)]

    assert splits_of("squares", "train", "validation", data_dir) == ["train", "test"]
    for number in range(10):
        (tmp_path / "cat").mkdir(exist_ok=True)
        (tmp_path / "cat" / f"{number}.png").write_bytes(b"a")
    assert splits_of(tmp_path) == ["train[:80%]", "train[80%:]"]
    assert splits_of(tmp_path, "train[:50%]", "train[50%:]") == ["train[:50%]", "train[50%:]"]
    with pytest.raises(splits.NoSuchSplit, match=r"there are \['train'\].*'trian'"):
        sources.open_test(tmp_path, "trian")
    with pytest.raises(splits.NoSuchSplit, match="leaves out"):
        splits_of(tmp_path, "train[:90%]")
    for name in ("training", "Train"):
        (tmp_path / name).mkdir()
        (tmp_path / "cat").rename(tmp_path / name / "cat")
        assert splits_of(tmp_path) == splits_of(tmp_path, "training") == [f"{name}[:80%]", f"{name}[80%:]"]
        assert splits_of(tmp_path, "train", "test[:50%]") == [f"{name}[:80%]", f"{name}[80%:]"]
        (tmp_path / name / "cat").rename(tmp_path / "cat")
        (tmp_path / name).rmdir()
    (tmp_path / "test").mkdir()
    (tmp_path / "cat").rename(tmp_path / "test" / "cat")
    assert sources.open_test(tmp_path).split == "test"
    with pytest.raises(splits.NoSuchSplit, match="there are"):
        sources.open_pair(tmp_path)


def test_the_command_does_prepare_the_data(tmp_path):
    """For a set that needs no network: the one that is made here."""
    with pytest.raises(FileNotFoundError) as error:
        open_source("squares", "train", data_dir=tmp_path)
    exec(command_of(error)[2], {})
    assert open_source("squares", "train", data_dir=tmp_path).num_examples == SIZE


def test_data_that_is_put_in_place_by_hand_is_told_of(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ILSVRC2012_img_train\.tar") as error:
        open_source("imagenet2012", "train", data_dir=tmp_path)
    assert f"{tmp_path}/downloads/manual" in str(error.value)


@pytest.mark.parametrize(
    ("name", "near"), [("cifar-10", "cifar10"), ("imagnet2012", "imagenet2012"), ("demoo", "demo")]
)
def test_an_unknown_name_is_told_with_names_like_it(tmp_path, name, near):
    with pytest.raises(ValueError, match=f"'{near}'.*Received: '{name}'"):
        open_source(name, "train", data_dir=tmp_path)


def test_sets_of_another_kind_are_refused_before_they_are_prepared(tmp_path):
    with pytest.raises(ValueError, match=r"one image and one label.*boxes"):
        open_source("boxes", "train", data_dir=tmp_path)


def test_a_folder_is_told_from_a_name(tmp_path, monkeypatch, data_dir):
    for folder in ("pets", "cifar10"):
        (tmp_path / folder / "cat").mkdir(parents=True)
        (tmp_path / folder / "cat" / "1.jpg").write_bytes(b"a")
    monkeypatch.chdir(tmp_path)
    assert open_source("pets", "train").class_names == ("cat",)
    assert open_source("./cifar10", "train").class_names == ("cat",)
    (tmp_path / "mnist" / "mine").mkdir(parents=True)
    (tmp_path / "pets" / "cat").rename(tmp_path / "mnist" / "mine" / "cat")
    assert open_source("mnist/mine", "train").class_names == ("cat",)
    (tmp_path / "mnist" / "mine" / "cat").rename(tmp_path / "pets" / "cat")
    assert open_source(Path("cifar10"), "train").class_names == ("cat",)
    with pytest.raises(FileNotFoundError, match="not prepared"):
        open_source("cifar10", "train", data_dir=tmp_path / "nothing")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source("~/pets", "train").num_examples == 1
    with pytest.raises(FileNotFoundError, match=r"no such file or folder\. Received: nothing"):
        open_source("./nothing", "train")
    with pytest.raises(ValueError, match="neither a folder nor the archive"):
        open_source("pets/cat/1.jpg", "train")


def test_cifars_own_files_are_arrays(tmp_path):
    folder = write_cifar(tmp_path)
    source = open_source(folder, "train[:50%]")
    assert (source.encoded, source.random_access, source.num_classes) == (False, True, 10)
    assert (source.class_names[0], source.class_names[9], source.split) == ("airplane", "truck", "train[:50%]")
    images, labels = zip(*examples(source))
    np.testing.assert_array_equal(images, IMAGES[:10])
    np.testing.assert_array_equal(labels, LABELS[:10])
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    assert open_source(archive, "validation").split == "test"
    assert open_source("cifar10", "test", data_dir=archive).split == "test"


def test_options_that_mean_nothing_here_are_refused(tmp_path, data_dir):
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match=r"Only TFRecord files.*num_classes"):
        open_source(tmp_path, "train", num_classes=3)
    with pytest.raises(ValueError, match=r"Only TFRecord files.*label_offset"):
        open_source("squares", "train", data_dir=data_dir, label_offset=0)
    with pytest.raises(ValueError, match="data_dir goes with"):
        open_source(tmp_path, "train", data_dir=data_dir)


def test_labels_that_are_withheld_are_refused(tmp_path, monkeypatch):
    """The test images of ImageNet have the label -1."""

    def hidden(self, count):
        for number, example in Squares.examples(self, count):
            yield number, example | {"fine": -1}

    monkeypatch.setattr(Squares, "examples", Squares._generate_examples, raising=False)
    monkeypatch.setattr(Squares, "_generate_examples", hidden)
    Squares(data_dir=tmp_path).download_and_prepare()
    with pytest.raises(tf.errors.InvalidArgumentError, match="does not fit the number of classes"):
        examples(open_source("squares", "test", data_dir=tmp_path))


def test_cifar10_as_tfds_has_prepared_it():
    if not SHARED.exists():
        pytest.skip("CIFAR-10 as tfds prepares it does not lie in ../shared/data")
    source = open_source("cifar10", "train", data_dir=SHARED)
    assert (source.num_examples, source.num_classes, source.class_names[3]) == (50000, 10, "cat")
    loaded = source.in_memory()
    assert np.bincount(loaded.storage.labels).tolist() == [5000] * 10
    pictures = np.stack([tf.io.decode_png(image) for image in loaded.storage.images[:2000]])
    np.testing.assert_allclose(pictures.mean(axis=(0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=0.01)
    assert open_source("cifar10", "validation", data_dir=SHARED).num_examples == 10000
