"""Files and names of weights: read without anybody's framework, renamed by tables."""

import os
from pathlib import Path

import keras


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Loads a Keras weights file into a model.

    Args:
        model: the model; it keeps its own weights if the file does not fit.
        path: a `.weights.h5` or `.keras` file.

    Example:
    >>> keras_resnet.ResNet20().save_weights("resnet20.weights.h5")
    >>> load_weights(keras_resnet.ResNet20(), "resnet20.weights.h5")
    """
    path = Path(path)
    if not path.name.endswith((".weights.h5", ".keras")):
        raise ValueError(f"`weights` must be None or a `.weights.h5` or `.keras` file. Received: {str(path)!r}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file at this path. Received: {str(path)!r}.")
    model.load_weights(path)
