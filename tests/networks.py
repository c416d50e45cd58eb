"""Small networks that look trained: their batch norms do something, and activations stay of the order of 1."""

import dataclasses

import keras
import numpy as np

import keras_resnet
from keras_resnet.architectures import NAMED
from keras_resnet.cards import Card
from keras_resnet.preprocessing import Preprocessing

RANGES = {"gamma": (0.5, 1.2), "beta": (-0.3, 0.3), "moving_mean": (-0.3, 0.3), "moving_variance": (0.5, 1.5)}
SIGNS = {"gamma"}  # some are negative in trained networks too


def trained(model: keras.Model, seed: int = 0) -> keras.Model:
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.name in RANGES:
            values = random.uniform(*RANGES[variable.name], variable.shape)
            variable.assign(values * random.choice([1, 1, 1, -1], variable.shape) if variable.name in SIGNS else values)
    return model


def reduced(architecture: keras_resnet.Architecture) -> keras_resnet.Architecture:
    """The same kind of network, narrow, with one block or two in two stages."""
    return dataclasses.replace(architecture, depths=(2, 1), widths=(16, 32))


REDUCED = {}  # every kind of network in the table, by the first name it has there
for name, row in NAMED.items():
    if reduced(row) not in REDUCED.values():
        REDUCED[name] = reduced(row)


def small(**settings) -> tuple[keras.Model, Card]:
    """A CIFAR network of three classes, one of them with a name beyond ASCII, for images of any size."""
    model = keras_resnet.ResNet20(depths=(1, 1, 1), input_shape=(None, None, 3), classes=3, **settings)
    preprocessing = Preprocessing(image_size=24, resize=28)
    return trained(model), Card(network="ResNet20", preprocessing=preprocessing, class_names=("cat", "犬", "fish"))
