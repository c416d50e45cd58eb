"""Cards: what travels with a trained network, and that its file stays Keras's."""

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet.cards import Card, default_card, open_model, read_card, save_model
from keras_resnet.preprocessing import CIFAR10_CLASSES, NAMED

pytestmark = pytest.mark.lower_house


@pytest.fixture
def small():
    return keras_resnet.ResNet20(depths=(1, 1, 1), classes=3)


def test_a_card_travels_in_the_file_and_plain_keras_opens_it(small, tmp_path):
    card = Card(network="ResNet20", preprocessing=NAMED["cifar10"], class_names=("Katze", "犬", "vis"))
    path = tmp_path / "small.keras"
    save_model(small, path, card)
    assert [file.name for file in tmp_path.iterdir()] == ["small.keras"]
    model, found = open_model(str(path))
    assert found == card == read_card(path)
    plain = keras.saving.load_model(path)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(plain.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6)


def test_a_name_and_weights_have_the_card_of_the_weights(small, tmp_path):
    small = keras_resnet.ResNet20()
    keras_resnet.weights.save(small, tmp_path / "w.safetensors")
    model, card = open_model("resnet20", str(tmp_path / "w.safetensors"), "cifar10")
    assert card == Card(network="ResNet20", preprocessing=NAMED["cifar10"], class_names=CIFAR10_CLASSES)
    np.testing.assert_array_equal(model.get_weights()[0], small.get_weights()[0])
    assert default_card("ResNet50", NAMED["torch"], 1000).class_names[207] == "golden retriever"
    assert default_card("ResNet20", NAMED["torch"], 3).class_names == ("0", "1", "2")


def test_what_does_not_say_what_it_takes_is_refused(small, tmp_path):
    plain = tmp_path / "plain.keras"
    small.save(plain)
    with pytest.raises(ValueError, match="no card"):
        open_model(str(plain))
    assert open_model(str(plain), preprocessing="cifar10")[1].class_names == ("0", "1", "2")
    keras_resnet.weights.save(small, tmp_path / "w.safetensors")
    for arguments, complaint in (
        (("ResNet20", str(tmp_path / "w.safetensors")), "give `preprocessing`"),
        (("ResNet20",), "weights=None"),
        (("ResNet20", "cifar10", "toch"), "'toch'"),
        ((str(plain), "imagenet"), "has its weights"),
    ):
        with pytest.raises(ValueError, match=complaint):
            open_model(*arguments)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_model("nowhere.keras")
    with pytest.raises(ValueError, match=r"ends in \.keras"):
        save_model(small, tmp_path / "small.h5", default_card("ResNet20", NAMED["cifar10"], 3))
