"""The network as exporters take it: checked, folded, with probabilities, its weights constants of a graph."""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_resnet.cards import Card
from keras_resnet.classifiers import gives_logits
from keras_resnet.export.folding import fold_batch_norms


def frozen_network(model: keras.Model, card: Card, dtype: str = "float32", fold: bool = True) -> Callable:
    """The network as a graph in which the weights are constants.

    TensorFlow lays constants out for its kernels once; what variables hold it lays out anew with every request.

    Args:
        model: a network of this package with its top.
        card: its card.
        dtype: what it computes in: `"float32"` or `"bfloat16"`.
        fold: whether batch norms are folded; another `dtype` than the model's own needs it.

    Returns:
        A traced function of normalised float32 images `(n, size, size, 3)` to a dict of `features` `(n, channels)`
        and `probabilities` `(n, classes)`, both float32.

    Example:
    >>> network = frozen_network(keras_resnet.ResNet20(), default_card("ResNet20", NAMED["cifar10"], 10))
    >>> network(tf.zeros((2, 32, 32, 3)))["probabilities"].shape
    TensorShape([2, 10])
    """
    check(model, card)
    if not fold and dtype != "float32":
        raise ValueError(f"Another `dtype` needs fold=True. Received: dtype={dtype!r}, fold=False.")
    model = fold_batch_norms(model, dtype) if fold else model
    network = keras.Model(model.input, [model.get_layer("head_pool").output, model.output])
    weights = [(variable, keras.ops.convert_to_numpy(variable)) for variable in network.variables]
    size = card.preprocessing.image_size

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.float32, name="normalised")])
    def run(images):
        with keras.StatelessScope([(variable, tf.constant(values)) for variable, values in weights]):
            features, scores = network(images, training=False)
        return {"features": features, "probabilities": tf.nn.softmax(scores) if gives_logits(model) else scores}

    return run.get_concrete_function()


def check(model: keras.Model, card: Card) -> None:
    """Refuses what cannot be exported: a model without its top, or one that its card does not fit."""
    names = {layer.name for layer in model.layers}
    if not {"head_pool", "predictions"} <= names or len(model.outputs) != 1 or len(model.output.shape) != 2:
        raise ValueError(
            "Only a network of this package with its top (include_top=True) can be exported. "
            f"Received: {model.name!r}, whose last layer is {model.layers[-1].name!r}."
        )
    if keras.config.image_data_format() != "channels_last":
        raise ValueError("Exported networks have their channels last. Received: image_data_format='channels_first'.")
    size = card.preprocessing.image_size
    if not all(edge in (None, size) for edge in model.input_shape[1:3]):
        raise ValueError(
            f"Its preprocessing gives images of {size} pixels: build the network with input_shape=(None, None, 3). "
            f"Received: a network of input shape {model.input_shape}."
        )
    if model.output_shape[-1] != len(card.class_names):
        raise ValueError(
            f"Each class needs a name. Received: {len(card.class_names)} names for {model.output_shape[-1]} classes."
        )
