"""Our networks against others': the same weights, the same images, the same logits, with no PyTorch installed."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from golden.recipe import CLASSES, images, uniform, variable

import keras_resnet
from keras_resnet.architectures import NAMED, cost
from keras_resnet.weights.assign import assign, sources
from keras_resnet.weights.names import LAYOUTS

GOLDEN = json.loads((Path(__file__).parent / "golden" / "logits.json").read_text())


def layout_of(network):
    row = NAMED[network]
    return LAYOUTS["timm_v2" if row.preactivation else "timm_d" if row.stem.startswith("deep") else "timm"]


def in_torch_axes(shape):
    return {4: lambda s: (s[3], s[2], s[0], s[1]), 2: lambda s: (s[1], s[0])}.get(len(shape), tuple)(shape)


def same(ours, theirs):
    ours, theirs = keras.ops.convert_to_numpy(ours), np.asarray(theirs)
    return np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.mark.parametrize("network", GOLDEN)
def test_logits_are_those_of_pytorch(network):
    settings = {} if NAMED[network].block == "basic" else {"stride_on": "3x3"}
    model = keras_resnet.get_model(
        network, classes=CLASSES, input_shape=(None, None, 3), classifier_activation=None, **settings
    )
    layout = layout_of(network)
    state = {each.name: variable(each.name, in_torch_axes(each.variable.shape)) for each in sources(model, layout)}
    assign(model, state, layout)
    assert same(model(images()), GOLDEN[network]["logits"])
    assert cost(NAMED[network]).parameters == GOLDEN[network]["parameters"]


@pytest.mark.parametrize("network", ["ResNet50", "ResNet101", "ResNet152"])
def test_logits_are_those_of_keras_applications(network):
    """These have the stride on the 1x1 and biases under the batch norms, which vanish into their moving means."""
    arguments = {"weights": None, "classes": CLASSES, "input_shape": (71, 64, 3), "classifier_activation": None}
    theirs, ours = getattr(keras.applications, network)(**arguments), keras_resnet.get_model(network, **arguments)
    state = {}
    for layer in theirs.layers:
        for own in layer.weights:
            name = f"{layer.name}/{own.name}"
            low, high = {"moving_variance": (0.5, 1.5), "gamma": (0.3, 0.7)}.get(own.name, (-0.3, 0.3))
            state[name] = own.numpy() if own.name == "kernel" else uniform(name, own.shape, low, high)
            own.assign(state[name])
    assign(ours, state, LAYOUTS["keras_applications"])
    assert same(ours(images()), theirs(images()))
