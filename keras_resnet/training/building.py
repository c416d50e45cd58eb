"""From a configuration to what `fit` is called on: network, optimiser, loss, learning rate."""

from collections.abc import Iterator

import keras

from keras_resnet import models
from keras_resnet.training.config import Config
from keras_resnet.training.devices import Devices
from keras_resnet.training.losses import get_loss
from keras_resnet.training.optimizers import SGD, Lamb, LossScale
from keras_resnet.training.schedules import LearningRate, Plateau, WarmUpUntilError
from keras_resnet.weights.assign import layers_with_weights

_OPTIMIZERS = {
    "sgd": lambda config: SGD(
        config.highest_rate,
        config.momentum,
        config.nesterov,
        config.weight_decay,
        config.decay_all,
        config.momentum_correction,
    ),
    "lamb": lambda config: Lamb(
        config.highest_rate, weight_decay=config.weight_decay, decay_all=config.decay_all, global_clipnorm=1.0
    ),
}


def build_network(config: Config, num_classes: int) -> keras.Model:
    """The network of a configuration, with its weights if it has some, and as much of it frozen as is to be.

    Example:
    >>> build_network(RECIPES["cifar-paper"], 10).output_shape
    (None, 10)
    """
    shape = (config.image_size, config.image_size, 3)
    settings = {"classifier_activation": get_loss(config.loss)[1], **dict(config.settings)}
    if config.weights:
        settings |= {"weights": config.weights, "load_head": config.load_head}
    network = models.get_model(config.model, input_shape=shape, classes=num_classes, dtype=config.dtype, **settings)
    if config.trainable == "head":
        for layer in network.layers[:-1]:
            layer.trainable = False  # batch norms as well: a frozen one keeps its statistics
    return network


def compiled(network: keras.Model, front: keras.Model | None, config: Config, devices: Devices) -> keras.Model:
    """What `fit` is called on: the front and the network, with optimiser, loss and metric.

    Args:
        network: what is trained.
        front: what the device does before the network.
        config: optimiser and loss.
        devices: what they ask for.

    Returns:
        A compiled `keras.Model` of the network's own variables.

    Example:
    >>> config = RECIPES["cifar-paper"]
    >>> model = compiled(build_network(config, 10), None, config, Devices())
    """
    model = network if front is None else keras.Model(front.inputs, network(front.outputs[0]))
    synchronize(network, devices.synchronized)
    model = devices.wrap(model)
    optimizer = _OPTIMIZERS[config.optimizer](config)
    if config.dtype == "mixed_float16":
        optimizer = LossScale(optimizer)
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer,
        get_loss(config.loss, config.label_smoothing)[0],
        weighted_metrics=["accuracy"],  # an example that only fills a batch has the weight 0
        auto_scale_loss=False,  # the loss scale is there, and its variables are built
    )
    return model


def learning_rate(config: Config, total_steps: int) -> LearningRate:
    """The callback that sets the learning rate of each step.

    Example:
    >>> learning_rate(RECIPES["cifar-paper"], 64_000).rate(32_000)
    0.01
    """
    schedule = config.rate(total_steps)
    if config.schedule == "plateau":
        return Plateau(schedule, patience=config.patience)
    if config.warmup_until_error is not None:
        return WarmUpUntilError(schedule, config.warmup_rate, config.warmup_until_error)
    return LearningRate(schedule)


def synchronize(network: keras.Model, on: bool) -> None:
    """Has batch norms take their moments over all replicas, or over their own images.

    Example:
    >>> synchronize(keras_resnet.ResNet20(), False)
    """
    for layer in _batch_norms(network):
        layer.synchronized = on


def _batch_norms(network: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    layers = layers_with_weights(network.layers)
    return (layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization))
