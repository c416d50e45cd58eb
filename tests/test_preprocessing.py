"""Preprocessing against Keras's own functions, and the classes' names."""

import keras
import numpy as np
import pytest
from keras.applications import imagenet_utils

from keras_resnet import Preprocessing, decode_predictions, preprocess_input
from keras_resnet.preprocessing import imagenet_classes

pytestmark = pytest.mark.lower_house
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype="uint8")


@pytest.mark.parametrize("mode", ["caffe", "torch"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_agrees_with_keras(mode, data_format):
    images = IMAGES if data_format == "channels_last" else IMAGES.transpose(0, 3, 1, 2)
    theirs = imagenet_utils.preprocess_input(images.astype("float32"), data_format=data_format, mode=mode)
    for given in (images, images.astype("float64"), keras.ops.convert_to_tensor(images)):
        ours = preprocess_input(given, mode, data_format)
        assert isinstance(ours, type(given))
        assert keras.backend.standardize_dtype(ours.dtype) == "float32"
        np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), theirs, rtol=1e-5, atol=1e-5)


def test_what_is_given_is_not_changed():
    images = IMAGES.astype("float32")
    preprocess_input(images, "caffe")
    np.testing.assert_array_equal(images, IMAGES)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: preprocess_input(IMAGES, "imagenet"), "torch, paper, tf, caffe"),
        (lambda: preprocess_input(IMAGES[..., :1]), "3 channels"),
        (lambda: preprocess_input(IMAGES, data_format="NHWC"), "channels_first"),
        (lambda: Preprocessing(interpolation="cubic"), "bicubic"),
        (lambda: Preprocessing(image_size=288), "must fit"),
        (lambda: Preprocessing(std=(1, 0, 1)), "no zero"),
        (lambda: decode_predictions(np.zeros((1, 10))), "1000"),
        (lambda: decode_predictions(np.zeros((1, 2)), class_names=["cat", "dog"]), "`top`"),
    ],
)
def test_bad_input(call, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        call()
    assert "Received:" in str(error.value)


def test_imagenet_classes():
    ids, names = zip(*imagenet_classes())
    assert len(set(ids)) == len(names) == 1000
    assert list(ids) == sorted(ids)  # the networks' order is that of the WordNet ids
    known = {0: ("n01440764", "tench"), 207: ("n02099601", "golden retriever"), 999: ("n15075141", "toilet tissue")}
    assert {i: imagenet_classes()[i] for i in known} == known


def test_decode_predictions():
    scores = np.array([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2]])
    decoded = decode_predictions(keras.ops.convert_to_tensor(scores), top=2, class_names=["a", "b", "c"])
    assert [[name for _, name, _ in row] for row in decoded] == [["b", "c"], ["a", "b"]]
    assert decoded[0][0][0] == "1"
    assert abs(decoded[0][0][2] - 0.7) < 1e-6
