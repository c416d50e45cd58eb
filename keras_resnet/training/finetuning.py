"""Fine-tuning in two runs: the new classifier on a frozen network, then all of it."""

import dataclasses
import os

import keras

from keras_resnet.cards import read_card
from keras_resnet.preprocessing import NAMED, Preprocessing
from keras_resnet.training import checkpoints
from keras_resnet.training.config import Config
from keras_resnet.training.loop import train
from keras_resnet.training.remote import mirrored
from keras_resnet.weights import is_path, preprocessing_for


def finetune(
    config: Config,
    run_dir: str | os.PathLike,
    head_epochs: float,
    head_learning_rate: float,
    verbose: int | str = "auto",
) -> keras.Model:
    """Trains the classifier of a network that has weights, and after it the whole network.

    Args:
        config: the second run, and with other epochs and another rate the first; `weights` are what both begin with.
        run_dir: folder of the second run; the first has the folder `head` in it. Both are gone on with.
        head_epochs: epochs of the first run.
        head_learning_rate: its highest rate.
        verbose: Keras's.

    Returns:
        The network.

    Example:
    >>> config = dataclasses.replace(RECIPES["finetune"], dataset="photos/", weights="imagenet")
    >>> finetune(config, "runs/photos", head_epochs=3, head_learning_rate=0.1)
    """
    if config.weights is None:
        raise ValueError("Fine-tuning begins with weights: a tag or a file. Received: weights=None.")
    if config.strategy == "multi_worker":  # TensorFlow sets a process's workers up once, and here are two runs
        raise ValueError("Fine-tuning is done on one machine: take mirrored. Received: strategy='multi_worker'.")
    config = dataclasses.replace(config, preprocessing=preprocessing_name(config))
    head_dir = f"{os.fspath(run_dir)}/head"
    if checkpoints.find(mirrored(run_dir)[0] / "checkpoints") is None:
        head = dataclasses.replace(
            config, trainable="head", epochs=head_epochs, steps=None, learning_rate=head_learning_rate
        )
        train(head, head_dir, verbose)
    trained = checkpoints.find(mirrored(head_dir)[0] / "checkpoints")
    whole = dataclasses.replace(config, weights=str(checkpoints.network_weights(trained)), load_head=True)
    return train(whole, run_dir, verbose)


def preprocessing_name(config: Config) -> str:
    """The name of the normalisation that a configuration's weights were trained with.

    That of a tag or of a `.keras` file with a card is known; for another file it is what the configuration says.

    Example:
    >>> preprocessing_name(dataclasses.replace(RECIPES["finetune"], weights="caffe"))
    'caffe'
    """
    if not is_path(config.weights):
        known = preprocessing_for(config.model, config.weights)
    elif str(config.weights).endswith(".keras") and (card := read_card(config.weights)):
        known = card.preprocessing
    else:
        return config.preprocessing
    names = [name for name, row in NAMED.items() if _normalisation(row) == _normalisation(known)]
    if not names:
        raise ValueError(f"No normalisation of {', '.join(NAMED)} is that of these weights. Received: {known}.")
    return names[0]


def _normalisation(preprocessing: Preprocessing) -> tuple:
    return preprocessing.channel_order, preprocessing.mean, preprocessing.std
