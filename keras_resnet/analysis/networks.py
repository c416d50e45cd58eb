"""What a network is and does, in numbers: its cost, its layers' responses, true statistics, where it looks."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.architectures import Cost

_MULTIPLYING = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def cost(model: keras.Model, image_size: int | None = None) -> Cost:
    """Counts parameters and multiply-adds of a functional model, whoever built it.

    As the paper does (section 3.3), multiply-adds are those of the convolutions and of dense layers.
    `keras_resnet.cost` counts an `Architecture`, before it is built.

    Args:
        model: the model.
        image_size: height and width of the image; needed where the model takes any size.

    Returns:
        A `Cost`: parameters, moving means and variances, multiply-adds of one image.

    Example:
    >>> cost(keras_resnet.ResNet20())
    Cost(parameters=269722, statistics=1376, multiply_adds=40551040)
    """
    shape = tuple(image_size if edge is None else edge for edge in model.input_shape[1:])
    if None in shape:
        raise ValueError(f"This model takes images of any size: give `image_size`. Received: {model.input_shape}.")
    multiply_adds = 0

    def call(layer, *args, **kwargs):
        nonlocal multiply_adds
        outputs = layer.compute_output_spec(*args, **kwargs)
        if isinstance(layer, _MULTIPLYING):
            kernel = layer.kernel.shape
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            channels = kernel[-1] * kernel[-2] if depthwise else kernel[-1]
            multiply_adds += math.prod(kernel) * math.prod(outputs.shape[1:]) // channels
        return outputs

    _run(model, keras.KerasTensor((1, *shape)), call)
    sizes = [math.prod(weight.shape) for weight in model.weights]
    moving = sum(size for size, weight in zip(sizes, model.weights) if weight.name.startswith("moving_"))
    return Cost(sum(sizes) - moving, moving, multiply_adds)


def layer_responses(model: keras.Model, batches: Iterable[Any]) -> dict[str, float]:
    """How strong the responses of the 3x3 layers are: their standard deviations (section 4.2, Figure 7).

    A response is what comes out of a 3x3 convolution and of the batch norm right behind it, before activation and
    addition; under pre-activation, where an addition comes first, of the convolution alone.

    Args:
        model: a functional model.
        batches: batches of normalised images `(batch, height, width, channels)`.

    Returns:
        For each 3x3 convolution, in their order, the standard deviation over all images, positions and channels.

    Example:
    >>> images = np.random.default_rng(0).normal(size=(4, 32, 32, 3))
    >>> [*layer_responses(keras_resnet.ResNet20(), [images])][:2]
    ['stem_conv', 'stage1_block1_conv1']
    """
    sums = {}

    def measure(images):
        responses = {}

        def call(layer, *args, **kwargs):
            outputs = layer(*args, **kwargs)
            if isinstance(layer, keras.layers.Conv2D) and tuple(layer.kernel_size) == (3, 3):
                responses[layer.name] = outputs
            elif isinstance(layer, keras.layers.BatchNormalization):
                responses.update({name: outputs for name, before in responses.items() if before is args[0]})
            return outputs

        _run(model, keras.ops.convert_to_tensor(images), call)
        for name, values in responses.items():
            values = keras.ops.cast(values, "float32")
            moments = np.array([keras.ops.mean(values), keras.ops.mean(values * values), 1.0], "float64")
            sums[name] = sums.get(name, 0.0) + moments * len(images)

    for images in batches:
        measure(images)
    if not sums:
        raise ValueError(
            "There must be a batch of images, and 3x3 convolutions in the model. "
            f"Received: {model.name!r}, and no batch, or no such layer."
        )
    return {name: math.sqrt(max(0.0, square / n - (mean / n) ** 2)) for name, (mean, square, n) in sums.items()}


def recompute_statistics(model: keras.Model, batches: Iterable[Any]) -> int:
    """Gives batch norms true averages instead of moving ones: the mean of the batches' means and variances.

    He et al.'s published networks have such statistics, computed after training. Each batch norm normalises by the
    batch meanwhile, as in training; dropout does not drop. Batch norms that are frozen keep what they have.

    Args:
        model: a functional model; its moving means and variances are replaced.
        batches: batches of normalised training images, of one size, as large as in training.

    Returns:
        How many batches there were.

    Example:
    >>> images = np.random.default_rng(0).normal(size=(3, 16, 32, 32, 3))
    >>> recompute_statistics(keras_resnet.ResNet20(), images)
    3
    """
    momenta = {layer: layer.momentum for layer in _layers(model) if isinstance(layer, keras.layers.BatchNormalization)}

    def call(layer, *args, **kwargs):
        return layer(*args, **kwargs | {"training": True} if layer in momenta else kwargs)

    count = 0
    try:
        for count, images in enumerate(batches, 1):
            for layer in momenta:
                layer.momentum = 1 - 1 / count  # moving * momentum + batch * (1 - momentum): the average of all so far
            _run(model, keras.ops.convert_to_tensor(images), call)
    finally:
        for layer, momentum in momenta.items():
            layer.momentum = momentum
    if not count:
        raise ValueError("Statistics are taken over one batch at least. Received: none.")
    return count


def class_activation_map(model: keras.Model, images: Any, classes: Sequence[int]) -> np.ndarray:
    """Where in an image a network sees a class (Zhou et al. 2016): the classifier's weights on the last features.

    Global average pooling gives it for free: the mean of a map, plus the class's bias, is the class's logit.

    Args:
        model: a model of this package with its top.
        images: normalised images `(batch, height, width, channels)`.
        classes: the class that is looked for in each image.

    Returns:
        float32 `(batch, height / stride, width / stride)`.

    Example:
    >>> class_activation_map(keras_resnet.ResNet20(), np.zeros((2, 32, 32, 3), "float32"), [3, 5]).shape
    (2, 8, 8)
    """
    pool, classifier = model.get_layer("head_pool"), model.get_layer("predictions")
    features = keras.Model(model.input, pool.input)(images, training=False)
    features = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(features, "float32")))
    if pool.data_format == "channels_first":
        features = np.moveaxis(features, 1, -1)
    kernel = keras.ops.convert_to_numpy(classifier.kernel)
    return np.einsum("nhwc,cn->nhw", features, kernel[:, list(classes)])


def _run(model: keras.Model, inputs: Any, call: Callable) -> Any:
    """Runs a functional model, `call(layer, *inputs)` standing for each `layer(*inputs)`; nested models are entered.

    The graph is Keras's own business, and `_run_through_graph` how `Functional` itself is executed. The public way,
    a model with many outputs, does not reach into nested models.
    """
    model = getattr(model, "_functional", model)  # what is inside a `Sequential`
    if not hasattr(model, "_run_through_graph"):
        raise TypeError(f"Only a functional model can be taken apart. Received: a {type(model).__name__}.")

    def stand_in(layer):
        if isinstance(layer, keras.Model):
            return lambda inputs, **kwargs: _run(layer, inputs, call)
        return functools.partial(call, layer)

    return model._run_through_graph(inputs, operation_fn=stand_in)


def _layers(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else [layer]
