"""Deep residual networks (He et al. 2015) in Keras: build, load, train, evaluate, export, serve."""

from keras_resnet import weights
from keras_resnet._version import __version__
from keras_resnet.architectures import NAMED as _NAMED, Architecture, cifar, cost, nearest as _nearest
from keras_resnet.layers import BatchNormalization, load_model
from keras_resnet.models import Constructor, build, constructor as _constructor, dense_head, get_model, list_models
from keras_resnet.preprocessing import Preprocessing, decode_predictions, preprocess_input
from keras_resnet.weights import preprocessing_for

__all__ = [
    "Architecture",
    "BatchNormalization",
    "Constructor",
    "Preprocessing",
    "__version__",
    "build",
    "cifar",
    "cost",
    "decode_predictions",
    "dense_head",
    "get_model",
    "list_models",
    "load_model",
    "preprocess_input",
    "preprocessing_for",
    "weights",
    *_NAMED,
]


def __getattr__(name: str) -> Constructor:
    """Every row of the table is a constructor of this module."""
    if name in _NAMED:
        return _constructor(name)
    raise AttributeError(f"module 'keras_resnet' has no attribute {name!r}." + _nearest(name, __all__))


def __dir__() -> list[str]:
    return sorted(__all__)
