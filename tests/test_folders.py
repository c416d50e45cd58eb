"""Folders of folders, on the local disk and through tf.io.gfile, for which ram:// stands in."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from keras_resnet.data.folders import open_folder
from keras_resnet.data.sources import open_source

tf = pytest.importorskip("tensorflow")

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "photos"


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    if request.param == "local":
        return str(tmp_path)
    path = f"ram://folders/{tmp_path.name}"
    request.addfinalizer(lambda: tf.io.gfile.rmtree(path) if tf.io.gfile.exists(path) else None)
    return path


def write(folder, names):
    """Writes files whose content is their own name."""
    for name in names:
        path = f"{folder}/{name}"
        tf.io.gfile.makedirs(path.rpartition("/")[0])
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(name.encode())


def contents(source):
    return {image.decode(): int(label) for image, label in source.dataset().as_numpy_iterator()}


def test_classes_are_the_sorted_folders_and_images_may_lie_deeper(folder):
    images = ["b/1.jpg", "b/2.JPEG", "a/deep/er/3.Png", "c/4.bmp", "c/5.gif", "c/6.webp"]
    write(folder, [*images, "b/notes.txt", "b/.7.jpg", "loose.jpg", ".hidden/8.jpg"])
    source = open_folder(folder, "train")
    assert (source.split, source.class_names, source.encoded) == ("train", ("a", "b", "c"), True)
    assert contents(source) == {name: "abc".index(name[0]) for name in images}
    assert source.random_access


def test_splits_are_found_by_any_of_their_names(folder):
    write(folder, ["Train/a/1.jpg", "Train/b/2.jpg", "val/a/3.jpg", "val/b/4.jpg", "papers/5.jpg"])
    source = open_folder(folder, "train")
    assert (source.split, contents(source)) == ("Train", {"Train/a/1.jpg": 0, "Train/b/2.jpg": 1})
    source = open_folder(folder, "validation")
    assert (source.split, contents(source)) == ("val", {"val/a/3.jpg": 0, "val/b/4.jpg": 1})


def test_the_order_is_mixed_and_fixed_wherever_the_folder_is(folder, tmp_path_factory):
    names = [f"{name}/{number}.jpg" for name in "ab" for number in range(50)]
    write(folder, names)
    order = list(contents(open_folder(folder, "train")))
    assert order != sorted(order)
    assert 15 <= sum(name.startswith("a") for name in order[:50]) <= 35
    elsewhere = str(tmp_path_factory.mktemp("elsewhere"))
    write(elsewhere, names)
    assert list(contents(open_folder(elsewhere, "train"))) == order
    write(folder, ["b/new.jpg"])
    assert [name for name in contents(open_folder(folder, "train")) if name != "b/new.jpg"] == order


def test_parts_have_something_of_every_class(folder):
    write(folder, [f"{name}/{number}.jpg" for name in "ab" for number in range(50)])
    train, held_out = (contents(open_source(folder, split)) for split in ("train[:80%]", "train[80%:]"))
    assert (len(train), len(held_out)) == (80, 20)
    assert not train.keys() & held_out.keys()
    assert set(held_out.values()) == {0, 1}


def test_classes_may_be_called_as_splits_are(folder):
    write(folder, ["bus/1.jpg", "train/2.jpg"])
    assert open_folder(folder, "train").class_names == ("bus", "train")


@pytest.mark.parametrize(
    ("names", "split", "complaint"),
    [
        (["train/1.jpg", "val/2.jpg"], "train", r"name of the folder.*Received: .*/train\."),
        (["1.jpg", "2.jpg"], "train", "name of the folder"),
        (["a/1.txt", "b/2.txt"], "train", r"no images \(\.bmp, .*Received"),
        (["a/1.jpg", "b/2.jpg"], "validation", r"there are \['train'\].*train\[90%:\]"),
        (["train/a/1.jpg", "test/2.jpg"], "test", "name of the folder"),
        (
            ["train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg"],
            "val",
            r"same classes.*'val': \[\], only in 'train': \['b'\]",
        ),
        (["train/a/1.jpg", "val/a/2.jpg", "val/c/3.jpg"], "train", r"'train': \[\], only in 'val': \['c'\]"),
    ],
)
def test_what_does_not_tell_the_classes_is_refused(folder, names, split, complaint):
    write(folder, names)
    with pytest.raises(ValueError, match=complaint):
        open_folder(folder, split)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no folder here"):
        open_folder(str(tmp_path), "train")


def test_an_empty_folder_stands_for_a_class_without_images(tmp_path):
    write(str(tmp_path), ["train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg"])
    (tmp_path / "val" / "b").mkdir()
    assert open_folder(str(tmp_path), "val").class_names == ("a", "b")


def test_links_are_followed(tmp_path):
    write(str(tmp_path / "elsewhere"), ["1.jpg"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere")
    assert open_folder(str(tmp_path / "data"), "train").num_examples == 1


def test_photographs(tmp_path):
    """500 real ones, against a look at the folders themselves and TensorFlow's decoder."""
    if not PHOTOS.exists():
        pytest.skip("the photographs do not lie in ../shared/data")
    source = open_source(PHOTOS, "train")
    assert source.class_names == tuple(sorted(folder.name for folder in (PHOTOS / "train").iterdir()))
    assert source.num_examples == len(list((PHOTOS / "train").rglob("*.jpg")))
    assert open_source(PHOTOS, "test").split == "val"
    pictures, labels = zip(*source.dataset().take(50).as_numpy_iterator())
    assert all(tf.io.decode_jpeg(picture).shape[2] == 3 for picture in pictures)
    for picture, label in zip(pictures, labels):
        folder = PHOTOS / "train" / source.class_names[label]
        assert any(picture == path.read_bytes() for path in folder.iterdir() if path.stat().st_size == len(picture))
    counts = np.bincount([label for _, label in source.dataset().as_numpy_iterator()])
    assert counts.tolist() == [len(list((PHOTOS / "train" / name).iterdir())) for name in source.class_names]
    shutil.copytree(PHOTOS / "val", tmp_path / "flat")
    assert open_source(tmp_path / "flat", "train[:10]").num_examples == 10
