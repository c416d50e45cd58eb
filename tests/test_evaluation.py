"""The paper's tests against brute-force NumPy; each image counted once, on any number of devices."""

import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

import keras_resnet
from keras_resnet import evaluation
from keras_resnet.cards import Card
from keras_resnet.classifiers import Classifier, fingerprint, of_model, open_classifier
from keras_resnet.data.augmentation import apply, ten_crops
from keras_resnet.data.sources import Source
from keras_resnet.data.storage import Table
from keras_resnet.evaluation import check_classes, evaluate
from keras_resnet.preprocessing import Preprocessing, imagenet_classes, preprocess_input

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
PREPROCESSING = Preprocessing(image_size=16, resize=20)
CARD = Card(network="tiny", preprocessing=PREPROCESSING, class_names=("ant", "bee", "cow"))
ROW = keras_resnet.Architecture(stem="cifar", depths=(1, 1), widths=(16, 16), shortcut="identity")
PHOTOS = [np.random.default_rng(i).integers(0, 256, (20 + i % 3, 20 + 5 * i % 7, 3), "uint8") for i in range(5)]
LABELS = np.array([0, 2, 1, 1, 0])


def network(**arguments):
    keras.utils.set_random_seed(3)
    return keras_resnet.build(ROW, classes=3, **{"input_shape": (16, 16, 3)} | arguments)


def photos():
    encoded = np.array([tf.io.encode_png(photo).numpy() for photo in PHOTOS], object)
    return Source("photos", "val", CARD.class_names, Table(encoded, LABELS))


def answers(classifier, source, protocol, **arguments):
    """What the network said of each image, in the order of the set."""
    strategy = tf.distribute.get_strategy()
    parts = evaluation._answers(classifier, source, protocol, arguments.get("batch_size", 2), strategy)
    labels, scores = (np.concatenate(part) for part in zip(*parts))
    np.testing.assert_array_equal(labels, source.storage.labels)
    return scores


def resized(photo, side):
    height, width = photo.shape[:2]
    size = (side * height // min(height, width), side * width // min(height, width))
    return tf.image.resize(photo, size, antialias=True).numpy()


def crop(image, top, left):
    return image[top : top + 16, left : left + 16]


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def corners(image):
    """Top left, top right, bottom left, bottom right, centre; then their mirror images."""
    bottom, right = image.shape[0] - 16, image.shape[1] - 16
    five = [(0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))]
    crops = [crop(image, *place) for place in five]
    return np.stack(crops + [one[:, ::-1] for one in crops])


def test_center_and_ten_crop_are_what_numpy_makes_of_them():
    model = network()
    images = [preprocess_input(resized(photo, 20), PREPROCESSING) for photo in PHOTOS]
    tens = np.stack([corners(image) for image in images])
    single = answers(of_model(model, CARD), photos(), "center")
    np.testing.assert_allclose(single, model.predict(tens[:, 4], verbose=0), atol=2e-5)
    scores = model.predict(tens.reshape(-1, 16, 16, 3), verbose=0).reshape(5, 10, 3)
    np.testing.assert_allclose(answers(of_model(model, CARD), photos(), "ten_crop"), scores.mean(1), atol=2e-5)
    for photo, expected in zip(PHOTOS, tens):
        np.testing.assert_allclose(apply(ten_crops(PREPROCESSING), photo), expected, atol=1e-4)


def test_multi_scale_is_what_numpy_makes_of_it():
    model, free = network(), network(input_shape=(None, None, 3), classifier_activation=None)
    free.set_weights(model.get_weights())
    expected = []
    for photo in PHOTOS:
        scales = [preprocess_input(resized(photo, side), PREPROCESSING) for side in (16, 18, 27, 34, 46)]
        views = [view for image in scales for view in (image, image[:, ::-1])]
        expected.append(np.mean([softmax(free(view[None]).numpy()[0]) for view in views], axis=0))
    np.testing.assert_allclose(answers(of_model(model, CARD), photos(), "multi_scale"), expected, atol=2e-5)


def test_a_model_of_logits_has_the_same_probabilities():
    model, logits = network(), network(classifier_activation=None)
    logits.set_weights(model.get_weights())
    scores = [answers(of_model(one, CARD), photos(), "center") for one in (model, logits)]
    np.testing.assert_allclose(*scores, atol=1e-6)


def test_the_dense_head_at_224_answers_as_the_centre_crop_does(monkeypatch):
    row = keras_resnet.Architecture(depths=(1, 1, 1, 1), widths=(4, 4, 8, 8))
    model = keras_resnet.build(row, classes=3, input_shape=(224, 224, 3))
    left = np.random.default_rng(0).integers(0, 256, (1, 224, 112, 3), "uint8")
    symmetric = np.concatenate([left, left[:, :, ::-1]], axis=2)  # so that the mirror image is the image
    source = Source("one", "val", CARD.class_names, Table(symmetric, np.array([1])), encoded=False)
    classifier = of_model(model, Card(**vars(CARD) | {"preprocessing": Preprocessing(resize=224)}))
    monkeypatch.setattr(evaluation, "SIDES", (224,))
    center, multi_scale = (evaluate(classifier, source, protocol) for protocol in ("center", "multi_scale"))
    assert multi_scale.loss == pytest.approx(center.loss, rel=1e-5)


def pixels(answers, labels, classes=7):
    """A set of images whose first pixel is what `reader` answers."""
    images = np.zeros((len(answers), 2, 2, 3), "uint8")
    images[:, 0, 0, 0] = answers
    return Source("mine", "test", tuple("abcdefg"[:classes]), Table(images, np.array(labels)), encoded=False)


def reader(classes=7):
    def classify(images):
        ranked = tf.range(classes, 0, -1) + 10 * tf.one_hot(
            tf.cast(images[:, 0, 0, 0], tf.int32), classes, dtype=tf.int32
        )
        return tf.nn.softmax(tf.cast(ranked, tf.float32))

    return Classifier(classify, (), None, model=keras.Model())


@given(data=st.data(), count=st.sampled_from([1, 2, 7, 13]), batch_size=st.integers(1, 16))
@settings(max_examples=8)
def test_each_example_is_counted_once(data, count, batch_size):
    answers, labels = (data.draw(st.lists(st.integers(0, 6), min_size=count, max_size=count)) for _ in range(2))
    result = evaluate(reader(), pixels(answers, labels), batch_size=batch_size)
    expected = np.zeros((7, 7), int)
    np.add.at(expected, (labels, answers), 1)
    np.testing.assert_array_equal(result.confusion, expected)
    # After its answer the reader ranks the classes in their order.
    best = [[answer, *(i for i in range(7) if i != answer)][:5] for answer in answers]
    assert result.in_top5 == sum(label in five for label, five in zip(labels, best))
    scores = softmax(np.arange(7, 0, -1) + 10 * np.eye(7)[answers])
    assert result.loss == pytest.approx(-np.mean(np.log(scores[range(count), labels])), rel=1e-5, abs=1e-6)


def test_of_equal_probabilities_the_first_class_is_the_answer():
    flat = Classifier(lambda images: tf.fill((len(images), 7), 1 / 7), (), None, model=keras.Model())
    result = evaluate(flat, pixels([0] * 7, range(7)))
    assert (result.correct, result.in_top5) == (1, 5)


MIRRORED = """
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from test_evaluation import CARD, evaluate, network, np, of_model, photos
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for protocol in ("center", "ten_crop", "multi_scale"):
    results = []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            classifier = of_model(network(), CARD)
        results.append(evaluate(classifier, photos(), protocol, batch_size=3, strategy=strategy))
    one, two = results
    np.testing.assert_array_equal(one.confusion, two.confusion)
    assert abs(one.loss - two.loss) < 1e-5 and one.in_top5 == two.in_top5
    print(mirrored.num_replicas_in_sync, protocol, two.count)
"""


def test_two_devices_count_as_one_does():
    command = [sys.executable, "-c", MIRRORED]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT / "tests")
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.split("\n")[:3] == ["2 center 5", "2 ten_crop 5", "2 multi_scale 5"]


def test_what_does_not_fit_is_refused():
    source, folder = photos(), tuple(wordnet for wordnet, _ in imagenet_classes())
    classifier = of_model(network(), CARD)
    for names, complaint in (
        (("ant", "bee"), "network of 2 classes"),
        (("bee", "ant", "cow"), "class 0 is 'bee' to the network and 'ant' in the set"),
    ):
        with pytest.raises(ValueError, match=complaint):
            evaluate(classifier._replace(class_names=names), source)
    four = of_model(keras_resnet.build(ROW, classes=4, input_shape=(16, 16, 3)), CARD)
    with pytest.raises(ValueError, match="probabilities of 3 classes"):
        evaluate(four, source)
    broken = network()
    broken.set_weights([array * np.nan for array in broken.get_weights()])
    with pytest.raises(ValueError, match="not a number"):
        evaluate(of_model(broken, CARD), source)
    with pytest.raises(ValueError, match="'ten_crop'"):
        evaluate(classifier, source, "ten_crops")
    with pytest.raises(ValueError, match="one device"):
        evaluate(classifier._replace(model=None, path=Path("exported")), source, "multi_scale")
    torn = Source("torn", "val", CARD.class_names, Table(np.array([b"no picture"], object), np.array([0])))
    with pytest.raises(ValueError, match=r"bad image\. Cannot be decoded, or does not fit the stack: image 0"):
        evaluate(classifier, torn)
    names = tuple(name for _, name in imagenet_classes())
    tfds = Source("imagenet2012", "validation", folder, Table(np.zeros((1, 2, 2, 3), "uint8"), np.array([0])))
    assert check_classes(names, tfds) == names
    assert check_classes(("0", "1", "2"), source) == source.class_names
    assert check_classes(("Ant", "b_e_e", "COW"), source) == ("Ant", "b_e_e", "COW")


class Server(tf.Module):
    """A SavedModel with the signatures that exported ones have."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def answer(self, images):
        return {"probabilities": self.model(images), "valid": tf.ones_like(images[:, 0, 0, 0], tf.bool)}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="images")])
    def images(self, images):
        return self.answer(preprocess_input(images[:, 2:18, 2:18], PREPROCESSING))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def image_bytes(self, encoded):
        def decode(one):
            image = tf.ensure_shape(tf.io.decode_png(one, channels=3), (None, None, 3))
            return tf.cast(image[2:18, 2:18], tf.float32)

        return self.answer(preprocess_input(tf.map_fn(decode, encoded, fn_output_signature=tf.float32), PREPROCESSING))


def test_a_saved_model_is_asked_by_its_signatures(tmp_path):
    model = network()
    server = Server(model)
    for version in ("9", "10"):
        tf.saved_model.save(
            server, tmp_path / version, signatures={"serving_default": server.image_bytes, "images": server.images}
        )
    (tmp_path / "10" / "assets.extra").mkdir()
    (tmp_path / "10" / "assets.extra" / "card.json").write_text(CARD.to_json(), "utf-8")
    exported = open_classifier(str(tmp_path))
    assert (exported.path.name, exported.class_names) == ("10", CARD.class_names)
    square = [photo[:20, :20] for photo in PHOTOS]
    arrays = Source("arrays", "val", CARD.class_names, Table(np.stack(square), LABELS), encoded=False)
    encoded = np.array([tf.io.encode_png(photo).numpy() for photo in square], object)
    files = Source("files", "val", CARD.class_names, Table(encoded, LABELS))
    expected = answers(of_model(model, CARD), arrays, "center")
    for source in (arrays, files):
        np.testing.assert_allclose(answers(exported, source, "center"), expected, atol=1e-5)
    assert len(fingerprint(exported)) == 64
    with pytest.raises(ValueError, match="in its graph"):
        open_classifier(str(tmp_path), preprocessing="torch")
    with pytest.raises(ValueError, match="no SavedModel"):
        open_classifier(str(ROOT))


def test_a_tflite_file_takes_plain_rgb(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="TFLite files are run by ai-edge-litert")

    class Phone(tf.Module):
        """Which colour is strongest?"""

        @tf.function(input_signature=[tf.TensorSpec([1, 16, 16, 3], tf.uint8)])
        def __call__(self, images):
            return tf.nn.softmax(tf.reduce_mean(tf.cast(images, tf.float32), axis=(1, 2)) / 10)

    phone = Phone()
    tf.saved_model.save(phone, tmp_path / "saved", signatures=phone.__call__)
    path = tmp_path / "tiny.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert())
    with pytest.raises(ValueError, match="no card"):
        open_classifier(str(path))
    with pytest.raises(ValueError, match="16"):
        answers(open_classifier(str(path), preprocessing="torch_cifar"), photos(), "center")
    classifier = open_classifier(str(path), preprocessing=PREPROCESSING)
    crops = np.stack([corners(resized(photo, 20))[4] for photo in PHOTOS])
    expected = softmax(crops.round().mean((1, 2)) / 10)
    np.testing.assert_allclose(answers(classifier, photos(), "center"), expected, atol=1e-3)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "ant\nbee\ncow\n")
    assert open_classifier(str(path), preprocessing=PREPROCESSING).class_names == CARD.class_names
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("keras_resnet.json", CARD.to_json())
    assert open_classifier(str(path)).preprocessing == PREPROCESSING
    np.testing.assert_array_equal(
        answers(open_classifier(str(path)), photos(), "center"), answers(classifier, photos(), "center")
    )


def test_the_published_checkpoint_has_its_errors_through_the_recipe(tmp_path):
    checkpoint = SHARED / "checkpoints" / "resnet20-12fca82f.th"
    if not checkpoint.is_file():
        pytest.skip("the published checkpoints do not lie in ../shared/data")
    flags = [f"--weights={checkpoint}", "--preprocessing=torch_cifar", "--set=zero_channels=around"]
    flags += ["--dataset=cifar10", f"--data_dir={SHARED / 'tensorflow_datasets'}", "--split=test"]
    flags += ["--strategy=mirrored", "--batch_size=250", f"--results={tmp_path / 'results.csv'}"]
    command = [sys.executable, ROOT / "recipes" / "evaluate.py", "--model=ResNet20", *flags]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "10000 images, 827 errors: top-1 91.73%" in run.stdout
    header, row = (tmp_path / "results.csv").read_text().splitlines()
    assert header.startswith("date,command,model,weights,protocol,dataset,split,images,errors,")
    assert ",ResNet20," in row
