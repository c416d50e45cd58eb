"""What a trained network must be told with: the card that says what it takes for an image and what its outputs mean.

A `.keras` file of ours carries its card as one more member of the archive, which plain Keras leaves alone.
"""

import dataclasses
import json
import os
import zipfile
from pathlib import Path

import keras

from keras_resnet.architectures import NAMED as NETWORKS, network_name
from keras_resnet.layers import load_model
from keras_resnet.models import get_model
from keras_resnet.preprocessing import CIFAR10_CLASSES, NAMED, Preprocessing, imagenet_classes, named
from keras_resnet.weights import is_path, preprocessing_for

CARD_MEMBER = "keras_resnet.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What belongs to a trained network.

    Args:
        network: its name, such as `"ResNet50"`.
        preprocessing: what it takes for an image.
        class_names: a name for each of its outputs.

    Example:
    >>> card = Card(network="ResNet20", preprocessing=NAMED["cifar10"], class_names=CIFAR10_CLASSES)
    >>> Card.from_json(card.to_json()) == card
    True
    """

    network: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    def to_json(self) -> str:
        """The card as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """The card that `to_json` wrote."""
        fields = json.loads(text)
        numbers = {name: tuple(v) if isinstance(v, list) else v for name, v in fields["preprocessing"].items()}
        return cls(
            network=fields["network"],
            preprocessing=Preprocessing(**numbers),
            class_names=tuple(fields["class_names"]),
        )


def save_model(model: keras.Model, path: str | os.PathLike, card: Card) -> None:
    """Writes a `.keras` file with its card inside; a reader never sees half of one.

    Args:
        model: the network.
        path: the file, which ends in `.keras`.
        card: what belongs to the network.

    Example:
    >>> model = keras_resnet.ResNet20()
    >>> save_model(model, "resnet20.keras", default_card("ResNet20", NAMED["cifar10"], 10))
    >>> read_card("resnet20.keras").class_names[3]
    'cat'
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise ValueError(f"The name of a model's file ends in .keras. Received: {str(path)!r}.")
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        model.save(part)
        with zipfile.ZipFile(part, "a") as archive:
            archive.writestr(CARD_MEMBER, card.to_json())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_card(path: str | os.PathLike) -> Card | None:
    """The card in a `.keras` file; None where there is none in it.

    Example:
    >>> card = default_card("ResNet20", NAMED["cifar10"], 10)
    >>> save_model(keras_resnet.ResNet20(), "resnet20.keras", card)
    >>> read_card("resnet20.keras") == card
    True
    """
    with zipfile.ZipFile(path) as archive:
        return Card.from_json(archive.read(CARD_MEMBER).decode()) if CARD_MEMBER in archive.namelist() else None


def default_card(network: str, preprocessing: Preprocessing, classes: int) -> Card:
    """A card with the usual names: ImageNet's for 1000 classes, CIFAR-10's for 10 of a CIFAR network, else numbers.

    Example:
    >>> default_card("ResNet20", NAMED["cifar10"], 3).class_names
    ('0', '1', '2')
    """
    network = network_name(network)
    if classes == 1000:
        names = tuple(name for _, name in imagenet_classes())
    elif classes == 10 and NETWORKS[network].stem == "cifar":
        names = CIFAR10_CLASSES
    else:
        names = numbered(classes)
    return Card(network=network, preprocessing=preprocessing, class_names=names)


def numbered(classes: int) -> tuple[str, ...]:
    """The names of classes that have no others: their numbers.

    Example:
    >>> numbered(3)
    ('0', '1', '2')
    """
    return tuple(map(str, range(classes)))


def spelled_out(class_names: tuple[str, ...]) -> tuple[str, ...]:
    """ImageNet's classes by their names, where they go by their WordNet ids; others as they are.

    Example:
    >>> spelled_out(("n02099601", "cat"))
    ('golden retriever', 'cat')
    """
    names = dict(imagenet_classes())
    return tuple(names.get(name, name) for name in class_names)


def open_model(
    model: str,
    weights: str | os.PathLike | None = None,
    preprocessing: Preprocessing | str | None = None,
    **settings,
) -> tuple[keras.Model, Card]:
    """Opens a trained network with its card: what every tool that runs one begins with.

    Args:
        model: a `.keras` file, or the name of a network.
        weights: for a name: the tag of published weights, or a file.
        preprocessing: what the weights take for an image, where nothing says so: a `Preprocessing` or its name.
        **settings: for a name: what its constructor takes, such as `classes` and `input_shape`.

    Returns:
        The model and its card.

    Example:
    >>> keras_resnet.weights.save(keras_resnet.ResNet20(), "resnet20.safetensors")
    >>> model, card = open_model("ResNet20", "resnet20.safetensors", "cifar10")
    >>> card.preprocessing.image_size
    32
    """
    preprocessing = None if preprocessing is None else named(preprocessing)
    if model.endswith(".keras"):
        return _open_file(model, weights, preprocessing)
    if weights is None:
        raise ValueError(f"The network {model!r} needs trained `weights`: a tag or a file. Received: weights=None.")
    if preprocessing is None:
        if is_path(weights):
            raise ValueError(
                f"A file of weights does not say what it takes for an image: give `preprocessing`, one of "
                f"{', '.join(NAMED)}. Received: weights={str(weights)!r}, preprocessing=None."
            )
        preprocessing = preprocessing_for(model, weights)
    network = get_model(model, weights=weights, **settings)
    return network, default_card(model, preprocessing, network.output_shape[-1])


def _open_file(path: str, weights, preprocessing: Preprocessing | None) -> tuple[keras.Model, Card]:
    if weights is not None:
        raise ValueError(f"A .keras file has its weights. Received: model={path!r}, weights={str(weights)!r}.")
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no such file: {path!r}.")
    network, card = load_model(path, compile=False), read_card(path)
    if card is None:
        if preprocessing is None:
            raise ValueError(
                "This .keras file has no card that says what it takes for an image: give `preprocessing`, one of "
                f"{', '.join(NAMED)}. Received: model={path!r}, preprocessing=None."
            )
        names = numbered(network.output_shape[-1])
        card = Card(network=network.name, preprocessing=preprocessing, class_names=names)
    return network, dataclasses.replace(card, preprocessing=preprocessing or card.preprocessing)
