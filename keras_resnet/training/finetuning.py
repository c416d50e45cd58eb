"""Fine-tuning in two runs: the new classifier on a frozen network, then all of it."""

import dataclasses
import os

import keras

from keras_resnet.cards import read_card
from keras_resnet.data.files import join
from keras_resnet.preprocessing import NAMED, Preprocessing
from keras_resnet.training import checkpoints
from keras_resnet.training.config import Config
from keras_resnet.training.loop import train
from keras_resnet.training.remote import local_of, mirrored
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
        head_epochs: epochs of the first run; 0 leaves it out.
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
    begun = _begun(run_dir)
    config = dataclasses.replace(config, preprocessing=begun.preprocessing if begun else preprocessing_name(config))
    if begun:  # with weights that lay somewhere then, and are in its checkpoint now
        whole = dataclasses.replace(config, weights=begun.weights, load_head=begun.load_head)
    elif head_epochs:
        head_dir = join(os.fspath(run_dir), "head")
        settings = {"epochs": head_epochs, "steps": None, "learning_rate": head_learning_rate}
        print("1 of 2: the classifier alone.")
        train(dataclasses.replace(config, trainable="head", **settings), head_dir, verbose)
        whole = dataclasses.replace(config, weights=str(local_of(head_dir) / "model.keras"), load_head=True)
    else:
        whole = config
    print("2 of 2: all of the network.")
    return train(whole, run_dir, verbose)


def _begun(run_dir: str | os.PathLike) -> Config | None:
    """The configuration of the second run, if it has a checkpoint."""
    folder, _ = mirrored(run_dir)
    if checkpoints.find(folder / "checkpoints") is None:
        return None
    return Config.from_json((folder / "config.json").read_text())


def preprocessing_name(config: Config, run_dir: str | os.PathLike | None = None) -> str:
    """The name of the normalisation that a configuration's weights were trained with.

    That of a tag or of a `.keras` file with a card is known; for another file it is what the configuration says. A run
    that has begun has it written down.

    Example:
    >>> preprocessing_name(dataclasses.replace(RECIPES["finetune"], weights="caffe"))
    'caffe'
    """
    if run_dir and (begun := _begun(run_dir)):
        return begun.preprocessing
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
