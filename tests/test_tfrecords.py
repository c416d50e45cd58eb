"""TFRecord files as TF-Slim and the Model Garden write them, locally and through tf.io.gfile (ram:// stands in)."""

import pytest

from keras_resnet.data.sources import open_source
from keras_resnet.data.tfrecords import open_tfrecords

tf = pytest.importorskip("tensorflow")


@pytest.fixture(params=["local", "remote"])
def folder(request, tmp_path):
    if request.param == "local":
        return str(tmp_path)
    path = f"ram://tfrecords/{tmp_path.name}"
    tf.io.gfile.makedirs(path)
    request.addfinalizer(lambda: tf.io.gfile.rmtree(path))
    return path


def bytes_feature(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def int64_feature(value):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def serialised(label, image, text=None):
    """An example with the keys that TF-Slim writes for ImageNet, among them some that are not read."""
    features = {
        "image/encoded": bytes_feature(image),
        "image/class/label": int64_feature(label),
        "image/format": bytes_feature(b"JPEG"),
        "image/height": int64_feature(10),
        "image/object/bbox/xmin": tf.train.Feature(float_list=tf.train.FloatList(value=[0.25])),
    }
    if text is not None:
        features["image/class/text"] = bytes_feature(text.encode())
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write(folder, name, labels, names=None):
    """Writes examples whose image is the name of the file and a number."""
    tf.io.gfile.makedirs(f"{folder}/{name}".rpartition("/")[0])
    with tf.io.TFRecordWriter(f"{folder}/{name}") as writer:
        for number, label in enumerate(labels):
            writer.write(serialised(label, f"{name} {number}".encode(), names and names[label]))


def pairs(source):
    return [(image.decode(), int(label)) for image, label in source.dataset().as_numpy_iterator()]


def test_shards_are_read_in_order_and_counted(folder):
    write(folder, "train-00000-of-00002", [0, 1, 2])
    write(folder, "train-00001-of-00002", [2, 0])
    write(folder, "validation-00000-of-00001", [1])
    source = open_tfrecords(folder, "train")
    assert (source.split, source.num_examples, source.class_names) == ("train", 5, ("0", "1", "2"))
    assert (source.encoded, source.random_access) == (True, False)
    assert [label for _, label in pairs(source)] == [0, 1, 2, 2, 0]
    assert [image for image, _ in pairs(source)][2:4] == ["train-00000-of-00002 2", "train-00001-of-00002 0"]
    source = open_source(folder, "val[:1]")
    assert (source.split, source.num_classes, pairs(source)) == ("validation", 3, [("validation-00000-of-00001 0", 1)])


@pytest.mark.parametrize(
    "names",
    [
        ("flowers_train_00000-of-00001.tfrecord", "flowers_validation_00000-of-00001.tfrecord"),
        ("train.tfrecords", "test.tfrecords"),
        ("train/part-00000-of-00001", "val/part-00000-of-00001"),
        ("set-Train.tfrecord-00000-of-00001", "set-Valid.tfrecord-00000-of-00001"),
    ],
)
def test_a_file_tells_its_split_by_its_name_or_its_folder(folder, names):
    for name in names:
        write(folder, name, [0, 1])
    write(folder, "notes.txt", [0])
    for split, name in zip(("train", "validation"), names):
        assert {image.rpartition(" ")[0] for image, _ in pairs(open_source(folder, split))} == {name}


def test_files_that_do_not_tell_are_for_training(folder):
    write(folder, "a.tfrecord", [0])
    write(folder, "b.tfrecord", [1])
    assert open_tfrecords(folder, "train").num_examples == 2
    with pytest.raises(ValueError, match="no such split"):
        open_tfrecords(folder, "validation")


def test_labels_from_one_and_names_in_the_files(folder):
    names = {1: "tench, Tinca tinca", 2: "goldfish", 3: "great white shark"}
    write(folder, "train-00000-of-00001", [3, 1, 2, 3], names)
    write(folder, "validation-00000-of-00001", [2, 3], names)
    assert open_tfrecords(folder, "train").class_names == tuple(names.values())
    # On its own, what is in the validation files would not tell.
    assert [label for _, label in pairs(open_tfrecords(folder, "validation"))] == [1, 2]


def test_what_is_said_is_not_looked_for(folder, monkeypatch):
    write(folder, "train-00000-of-00001", [5, 9])
    monkeypatch.setattr("keras_resnet.data.tfrecords._survey", None)
    source = open_source(folder, "train", num_classes=1000, label_offset=1)
    assert (source.num_classes, source.class_names[999]) == (1000, "999")
    assert [label for _, label in pairs(source)] == [4, 8]


@pytest.mark.parametrize(
    ("labels", "said", "classes", "first"),
    [
        ([0, 1, 2], {}, 3, 0),
        ([1, 2, 3], {}, 3, 1),
        ([1, 2, 3], {"label_offset": 0, "num_classes": 4}, 4, 0),
        ([0, 2], {"num_classes": 3}, 3, 0),
        ([1, 3], {"num_classes": 3}, 3, 1),
        ([0, 5], {"label_offset": 0, "num_classes": 9}, 9, 0),
        ([1, 2], {"label_offset": 1}, 2, 1),
        ([0], {}, 1, 0),
    ],
)
def test_labels_that_leave_no_doubt(tmp_path, labels, said, classes, first):
    write(str(tmp_path), "train.tfrecord", labels)
    source = open_tfrecords(str(tmp_path), "train", **said)
    assert source.num_classes == classes
    assert [label for _, label in pairs(source)] == [label - first for label in labels]


@pytest.mark.parametrize(
    ("labels", "said", "complaint"),
    [
        ([0, 2], {}, r"Say num_classes.*label_offset=0, labels \[0, 2\]"),
        ([2, 3], {}, "Say num_classes.*num_classes=None, label_offset=None"),
        ([1, 2], {"num_classes": 4}, "say label_offset"),
        ([1, 3], {"label_offset": 1}, "Say num_classes"),
        ([0, 1, 2], {"num_classes": 2}, "reach from 0 to 2.*Received: num_classes=2"),
        ([0, 1], {"label_offset": 1}, "Say num_classes"),
        ([-1, 0], {}, "Say num_classes"),
        ([-1, 0], {"num_classes": 2}, "label_offset"),
    ],
)
def test_labels_that_leave_doubt_or_do_not_fit_are_refused(tmp_path, labels, said, complaint):
    write(str(tmp_path), "train.tfrecord", labels)
    with pytest.raises(ValueError, match=complaint):
        open_tfrecords(str(tmp_path), "train", **said)


def test_labels_not_looked_at_are_checked_as_they_come(tmp_path):
    write(str(tmp_path), "train.tfrecord", [1, 2, 3])
    source = open_tfrecords(str(tmp_path), "train", num_classes=2, label_offset=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="does not fit the number of classes"):
        pairs(source)


def test_missing_files_are_named(folder):
    write(folder, "train-00000-of-00003", [0])
    write(folder, "train-00002-of-00003", [0])
    with pytest.raises(ValueError, match="1 TFRecord files are missing, the first is train-00001-of-00003"):
        open_tfrecords(folder, "train")


def test_other_files_are_refused(tmp_path):
    folder = str(tmp_path)
    write(folder, "train.tfrecord", [])
    with pytest.raises(ValueError, match=r"no records.*Received: split='train'"):
        open_tfrecords(folder, "train")
    (tmp_path / "train.tfrecord").write_bytes(b"not a TFRecord file, but long enough to look into")
    with pytest.raises(ValueError, match=r"not a TFRecord file.*train\.tfrecord"):
        open_tfrecords(folder, "train")
    with tf.io.TFRecordWriter(f"{folder}/train.tfrecord") as writer:
        writer.write(tf.train.Example().SerializeToString())
    with pytest.raises(ValueError, match=r"image/class/label.*Received"):
        open_tfrecords(folder, "train")


def test_damaged_records_are_refused(tmp_path):
    """The checksum of a record is TensorFlow's to look at; it does when the labels are."""
    write(str(tmp_path), "train.tfrecord", [0, 1])
    data = bytearray((tmp_path / "train.tfrecord").read_bytes())
    data[40] ^= 1
    (tmp_path / "train.tfrecord").write_bytes(data)
    with pytest.raises(ValueError, match=r"damaged.*Received"):
        open_tfrecords(str(tmp_path), "train")
