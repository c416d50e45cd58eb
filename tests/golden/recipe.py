"""Weights and images that PyTorch's networks and ours are given alike: by the variable's name, from NumPy.

`RandomState` because NumPy promises that its stream never changes.
"""

import zlib

import numpy as np

CLASSES = 16
IMAGE_SIZE = (71, 64)  # an odd and an even edge: padding that is off by a pixel shows in one of them


def uniform(name: str, shape, low: float, high: float) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return (low + (high - low) * random.random_sample(shape)).astype("float32")


def variable(name: str, shape) -> np.ndarray:
    """The value of a variable of a PyTorch state dict: activations stay of the order of 1 through 150 layers."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        return uniform(name, shape, 0.5, 1.5)
    if leaf in ("running_mean", "bias"):
        return uniform(name, shape, -0.3, 0.3)
    if len(shape) == 1:  # a batch norm's gamma
        return uniform(name, shape, 0.3, 0.7)
    limit = np.sqrt(6 / np.prod(shape[1:]))
    return uniform(name, shape, -limit, limit)


def images() -> np.ndarray:
    """Two images, channels last."""
    return uniform("images", (2, *IMAGE_SIZE, 3), -2, 2)
