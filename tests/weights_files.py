"""Files of weights to read, and what is to be said of what was read."""

from pathlib import Path

import keras
import numpy as np
import pytest

from keras_resnet.weights.readers import WeightsFileError, read

KERAS = ("model.weights.h5", "model.keras", "legacy.h5")


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name
        assert found[name].flags.writeable and found[name].dtype.isnative, name


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(WeightsFileError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)
    return str(refused.value)


def network() -> keras.Model:
    """Layers whose keys Keras makes in every way: of one class, of many, in nested models, wrapped, in bfloat16."""

    def stage(name):
        inputs = keras.Input((8, 8, 4))
        x = keras.layers.Conv2D(4, 1, use_bias=False, name=f"{name}_conv")(inputs)
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        return keras.Model(inputs, x, name=name)

    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv1_conv")(inputs)
    x = keras.layers.BatchNormalization(name="conv1_bn")(x)
    for name in ("stage1", "stage2"):
        x = keras.ops.relu(stage(name)(x))
    x = keras.layers.Conv2DTranspose(2, 1, name="up")(x)
    x = keras.layers.PReLU(name="prelu")(x)
    x = keras.layers.Conv2D(2, 1, name="layers")(x)
    x = keras.layers.Dropout(0.5, name="drop")(x)
    x = keras.layers.TimeDistributed(keras.layers.Dense(2, name="inner"), name="each")(x)
    x = keras.layers.Flatten(name="flat")(x)
    outputs = keras.layers.Dense(3, dtype="bfloat16", name="logits")(x)
    model = keras.Model(inputs, outputs, name="network")
    random = np.random.RandomState(0)
    for variable in model.weights:
        variable.assign(random.standard_normal(variable.shape))
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def save_in_every_format(model: keras.Model, folder: Path) -> Path:
    """Writes the files `KERAS`, all the formats that Keras has."""
    model.save_weights(folder / "model.weights.h5")
    model.save(folder / "model.keras")
    model.save(folder / "legacy.h5")
    return folder
