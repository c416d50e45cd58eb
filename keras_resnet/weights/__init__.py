"""Weights: what is published, what is in a file, and under which names; in, checked, and out again.

`weights=` of every constructor takes the tag of published weights or the path of a file; `list` says what is published,
and `save` writes files that Keras, safetensors and PyTorch read.
"""

import builtins
import os
from pathlib import Path

import keras

from keras_resnet.architectures import NAMED, Architecture, network_name, normalized
from keras_resnet.preprocessing import Preprocessing
from keras_resnet.weights.assign import assign, collect, detect_layout
from keras_resnet.weights.catalog import CATALOG as CATALOG, Published, published, resolve
from keras_resnet.weights.download import download
from keras_resnet.weights.names import LAYOUTS

_FILE_ENDINGS = (".h5", ".keras", ".safetensors", ".pth", ".pt", ".th", ".tar", ".npz", ".bin")


def list(network: str = "*") -> builtins.list[Published]:
    """What is published for a network.

    Args:
        network: name of a network; all of them if `"*"`.

    Returns:
        A list of `Published`: tag, address, hash, licence, preprocessing, published accuracy.

    Example:
    >>> [row.tag for row in keras_resnet.weights.list("resnet50")]
    ['caffe', 'IMAGENET1K_V1', 'IMAGENET1K_V2', 'a1_in1k']
    """
    return [*published(network)]


def is_path(weights: str | os.PathLike) -> bool:
    """Whether `weights` is meant as a file: it is one, or it is written like one.

    Example:
    >>> is_path("imagenet"), is_path("resnet50.pth")
    (False, True)
    """
    text = os.fspath(weights)
    return not isinstance(weights, str) or text.endswith(_FILE_ENDINGS) or os.sep in text or Path(text).is_file()


def find(
    weights: str | os.PathLike, architecture: Architecture, head: bool = True, classes: int | None = None
) -> Published | Path:
    """What `weights=` means for an architecture: a row of the catalog or a file. It neither downloads nor reads.

    Args:
        weights: a tag (`"imagenet"`: the best that is published for the architecture), or the path of a file.
        architecture: the network.
        head: whether the classifier is to be loaded.
        classes: number of classes of the network.

    Raises:
        ValueError: if nothing of the kind is published, or it has other classes than the network.

    Example:
    >>> find("resnet20.safetensors", keras_resnet.cifar(20)).name
    'resnet20.safetensors'
    """
    if is_path(weights):
        return Path(weights)
    row = resolve(architecture, weights)
    if head and classes != row.classes:
        raise ValueError(
            f"The weights {row.tag!r} have {row.classes} classes. Received: classes={classes}. "
            "To load all but the classifier, pass load_head=False."
        )
    return row


def load_weights(model: keras.Model, weights: Published | str | os.PathLike, head: bool = True) -> None:
    """Loads published weights or a file into a model of this package: all of them, or none and an error.

    Args:
        model: the model.
        weights: a row of the catalog, which is downloaded once, or the path of a file.
        head: whether the classifier is loaded too.

    Example:
    >>> model = keras_resnet.ResNet20()
    >>> save(model, "resnet20.safetensors")
    >>> load_weights(model, "resnet20.safetensors")
    """
    from keras_resnet.weights.readers import read

    if isinstance(weights, Published):
        assign(model, read(download(weights)), LAYOUTS[weights.layout], head)
    else:
        arrays = read(weights)
        assign(model, arrays, detect_layout(model, arrays), head)


def preprocessing_for(network: str, weights: str = "imagenet") -> Preprocessing:
    """What published weights take for an image: resize, crop, order of the channels, mean, standard deviation.

    Args:
        network: name of a network.
        weights: tag of the weights; `"imagenet"` as in `weights="imagenet"`.

    Returns:
        The `Preprocessing`; `preprocess_input` applies its normalisation.

    Example:
    >>> keras_resnet.preprocessing_for("ResNet50", "caffe").channel_order
    'bgr'
    """
    network = network_name(network)
    rows = [row for row in published(network) if normalized(row.tag) == normalized(weights)]
    return (rows[0] if rows else resolve(NAMED[network], weights)).preprocessing


def save(model: keras.Model, path: str | os.PathLike, names: str = "keras_resnet") -> None:
    """Writes a model's weights to a file.

    Args:
        model: a model of this package.
        path: a `.safetensors` or a `.weights.h5` file.
        names: whose names and axes a `.safetensors` file has: `"keras_resnet"`; `"torchvision"`, `"timm"`, `"timm_d"`,
            `"timm_v2"` or `"pytorch_resnet_cifar10"`: a state dict that the PyTorch network loads.

    Example:
    >>> keras_resnet.weights.save(keras_resnet.ResNet18(), "resnet18.safetensors", names="torchvision")
    """
    from keras_resnet.weights.readers import write_safetensors

    path = Path(path)
    if path.name.endswith(".weights.h5"):
        if names != "keras_resnet":
            raise ValueError(
                f"A .weights.h5 file has our names; save .safetensors for others. Received: names={names!r}."
            )
        model.save_weights(path)
    elif path.suffix == ".safetensors":
        if names not in LAYOUTS:
            raise ValueError(f"`names` must be one of {', '.join(LAYOUTS)}. Received: names={names!r}.")
        write_safetensors(path, collect(model, LAYOUTS[names]), {"format": "pt" if LAYOUTS[names].torch_axes else "np"})
    else:
        raise ValueError(f"Weights are written to .safetensors and .weights.h5 files. Received: {str(path)!r}.")
