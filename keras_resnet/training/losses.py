"""Losses by name, and the activation that the network trained with each must end in."""

import keras

from keras_resnet.architectures import nearest


@keras.saving.register_keras_serializable("keras_resnet")
class ClasswiseCrossentropy(keras.losses.Loss):
    """A yes or no for each class, averaged over classes ("ResNet strikes back", Wightman et al. 2021).

    Keras's `BinaryCrossentropy`, but for the smoothing: labels are smoothed as a distribution over the classes. Keras's
    would pull each class towards 0.5, which makes all 1000 of them likely.

    Args:
        label_smoothing: share of a label that goes to all classes.
        **kwargs: Keras's.

    Example:
    >>> loss = ClasswiseCrossentropy()(np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]]))
    >>> bool(abs(loss - np.log(2)) < 1e-6)
    True
    """

    def __init__(self, label_smoothing: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        """Labels and probabilities, both `(batch, classes)`, to the losses `(batch,)`."""
        y_true = y_true * (1 - self.label_smoothing) + self.label_smoothing / y_true.shape[-1]
        return keras.losses.binary_crossentropy(y_true, y_pred)

    def get_config(self):
        """The arguments, for saving."""
        return super().get_config() | {"label_smoothing": self.label_smoothing}


_LOSSES = {
    "cross_entropy": (keras.losses.CategoricalCrossentropy, "softmax"),
    "binary": (ClasswiseCrossentropy, "sigmoid"),
}


def get_loss(name: str, label_smoothing: float = 0.0) -> tuple[keras.losses.Loss, str]:
    """A loss by its name, for one-hot or mixed labels, and the activation of the classifier that goes with it.

    Args:
        name: `"cross_entropy"`, or `"binary"` for a yes or no for each class.
        label_smoothing: share of a label that goes to all classes.

    Returns:
        The loss and the name of the activation.

    Example:
    >>> loss, activation = get_loss("binary")
    >>> model = keras_resnet.ResNet20(classifier_activation=activation)
    >>> model.compile("sgd", loss)
    """
    if name not in _LOSSES:
        raise ValueError(f"`loss` must be one of {', '.join(_LOSSES)}. Received: {name!r}." + nearest(name, _LOSSES))
    loss, activation = _LOSSES[name]
    return loss(label_smoothing=label_smoothing), activation
