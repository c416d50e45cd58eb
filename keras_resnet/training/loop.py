"""`train`: from a `Config` to a trained model and a folder that says how it came about."""

import dataclasses
from pathlib import Path

import keras

from keras_resnet import models
from keras_resnet.data import augmentation, pipeline
from keras_resnet.data.sources import open_source
from keras_resnet.preprocessing import NAMED
from keras_resnet.training.config import Config
from keras_resnet.training.optimizers import SGD
from keras_resnet.training.schedules import LearningRate
from keras_resnet.training.strategies import describe, get_strategy


def train(config: Config, run_dir: Path) -> keras.Model:
    """Trains a network and writes configuration, log and model into a folder.

    Args:
        config: what to train, on what, and how.
        run_dir: the folder; it is made if it is not there.

    Returns:
        The trained model.

    Example:
    >>> train(Config(model="ResNet20", dataset="demo", image_size=64, low=72, high=96), Path("runs/demo"))
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    config.save(run_dir / "config.json")
    training, test = (
        open_source(config.dataset, split, data_dir=config.data_dir)
        for split in (config.train_split, config.test_split)
    )
    steps = config.steps_per_epoch(training.num_examples)
    keras.utils.set_random_seed(config.seed)
    strategy = get_strategy(config.strategy)
    print(describe(strategy, config.strategy, config.batch_size, config.dtype))
    with strategy.scope():
        model = compiled(config, training.num_classes)
    model.fit(
        pipeline.training(training, _stack(config), config.batch_size, config.seed, one_hot=True),
        steps_per_epoch=steps,
        epochs=config.epochs,
        shuffle=False,  # the pipeline has done it
        validation_data=pipeline.evaluation(test, _test_stack(config), config.batch_size, one_hot=True),
        callbacks=[LearningRate(config.rate(steps)), keras.callbacks.CSVLogger(run_dir / "log.csv")],
    )
    model.save(run_dir / "model.keras")
    return model


def compiled(config: Config, num_classes: int) -> keras.Model:
    """The network of a configuration with its optimiser, loss and metric."""
    shape = (config.image_size, config.image_size, 3)
    model = models.get_model(
        config.model, input_shape=shape, classes=num_classes, dtype=config.dtype, **dict(config.settings)
    )
    model.compile(
        SGD(config.learning_rate, config.momentum, weight_decay=config.weight_decay),
        keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing),
        weighted_metrics=["accuracy"],  # an example that only fills a batch has the weight 0
    )
    return model


def _stack(config: Config):
    return augmentation.paper_imagenet(config.image_size, *config.shorter_sides)


def _test_stack(config: Config):
    """One centre crop, of as much of the image as training crops show on average."""
    preprocessing = dataclasses.replace(
        NAMED["torch"], image_size=config.image_size, resize=config.shorter_sides[0], std=(1.0, 1.0, 1.0)
    )
    return augmentation.evaluation(preprocessing)
