"""ONNX files answer as the network does; Keras's exporter writes them, onnxruntime runs them."""

import numpy as np
import pytest
from networks import REDUCED, trained

import keras_resnet
from keras_resnet.cards import Card
from keras_resnet.export.compare import classifier, pictures
from keras_resnet.export.onnx import export_onnx, open_onnx
from keras_resnet.preprocessing import Preprocessing

for module in ("onnxruntime", "tf2onnx"):
    pytest.importorskip(module, reason="the extra `onnx` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning")  # tf2onnx's way


@pytest.mark.parametrize("name", ["SEResNet50", "ResNet50V2"])
def test_a_file_answers_as_the_network_does(name, tmp_path):
    model = trained(keras_resnet.build(REDUCED[name], input_shape=(32, 32, 3), classes=3))
    preprocessing = Preprocessing(image_size=32, resize=32, channel_order="bgr")
    card = Card(network=name, preprocessing=preprocessing, class_names=("a", "b", "c"))
    assert export_onnx(model, card, tmp_path / "x.onnx").agreement == 1.0
    images = pictures(card, 5)
    np.testing.assert_allclose(open_onnx(tmp_path / "x.onnx")(images), classifier(model, card)(images), atol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
