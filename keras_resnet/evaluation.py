"""The paper's three tests of a trained network: how often is it right on a set, each image counted exactly once?

- `center`: one crop, resized and cut as the weights' own preprocessing says.
- `ten_crop`: the corners, the centre and their mirror images; the softmax is averaged over the ten.
- `multi_scale`: whole images at five sizes and their mirror images, through the fully-convolutional form. Over the
  positions of an image the logits are averaged, which is what the pooling does; over images the softmax.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_resnet.architectures import nearest, normalized
from keras_resnet.cards import spelled_out
from keras_resnet.classifiers import Classifier, reason
from keras_resnet.data import augmentation, pipeline
from keras_resnet.data.sources import Source
from keras_resnet.models import dense_head
from keras_resnet.reports import Result

SIDES = (224, 256, 384, 480, 640)  # shorter sides of the multi-scale test, for a network of 224 pixels
_TINY = np.finfo(np.float32).tiny


def _center(classifier: Classifier) -> tuple[tuple, Callable]:
    return (classifier.stack,), classifier.classify


def _ten_crop(classifier: Classifier) -> tuple[tuple, Callable]:
    def classify(crops):
        scores = classifier.classify(tf.reshape(crops, (-1, *crops.shape[2:])))
        return tf.reduce_mean(tf.reshape(scores, (-1, 10, scores.shape[-1])), axis=1)

    return (augmentation.ten_crops(classifier.preprocessing),), classify


def _multi_scale(classifier: Classifier) -> tuple[tuple, Callable]:
    size = classifier.preprocessing.image_size
    sides = [round(side * size / 224) for side in SIDES]
    dense = dense_head(_of_any_size(classifier.model))

    def score(images):
        both = tf.concat([images, tf.reverse(images, axis=[2])], axis=0)
        logits = tf.reduce_mean(tf.cast(dense(both, training=False), tf.float32), axis=(1, 2))
        return tf.reduce_mean(tf.reshape(tf.nn.softmax(logits), (2, -1, logits.shape[-1])), axis=0)

    def classify(*scales):
        return sum(score(images) for images in scales) / len(scales)

    return augmentation.multi_scale(classifier.preprocessing, sides), classify


# From a classifier to the stacks that an image goes through, and from batches of what they give to probabilities.
PROTOCOLS = {"center": _center, "ten_crop": _ten_crop, "multi_scale": _multi_scale}


def _of_any_size(model: keras.Model) -> keras.Model:
    """A copy that takes images of any size and gives logits."""
    copy = keras.models.clone_model(model, input_tensors=keras.Input((None, None, model.input_shape[-1])))
    copy.set_weights(model.get_weights())
    copy.get_layer("predictions").activation = keras.activations.linear
    return copy


def evaluate(
    classifier: Classifier,
    source: Source,
    protocol: str = "center",
    batch_size: int = 64,
    strategy: tf.distribute.Strategy | None = None,
    progress: bool = False,
) -> Result:
    """Puts every image of a set to a network, once.

    Args:
        classifier: the network; if it is distributed, it must have been opened in the strategy's scope.
        source: the set.
        protocol: one of `PROTOCOLS`; an exported network has its input size in it and takes only `"center"`.
        batch_size: images at a time, on all devices together; the multi-scale test takes one on each.
        strategy: on which devices.
        progress: whether a bar is shown.

    Returns:
        The `Result`, of exactly `source.num_examples` images.

    Raises:
        ValueError: if the network's classes are not the set's.
        RuntimeError: if not every image was counted once.

    Example:
    >>> classifier = open_classifier("resnet50.keras")  # doctest: +SKIP
    >>> evaluate(classifier, open_source("photos", "val"), "ten_crop").summary()  # doctest: +SKIP
    """
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"`protocol` must be one of {', '.join(PROTOCOLS)}. Received: {protocol!r}.{nearest(protocol, PROTOCOLS)}"
        )
    strategy = strategy or tf.distribute.get_strategy()
    if classifier.model is None and (protocol != "center" or strategy.num_replicas_in_sync > 1):
        raise ValueError(
            "An exported network takes protocol='center', on one device: take the .keras file for others. Received: "
            f"protocol={protocol!r}, {strategy.num_replicas_in_sync} devices, {classifier.path}."
        )
    count = source.num_classes
    confusion, in_top5, loss = np.zeros((count, count), np.int64), 0, 0.0
    names = check_classes(classifier.class_names, source)
    with tqdm(total=source.num_examples, unit=" images", disable=not progress, smoothing=0) as bar:
        for labels, scores in _answers(classifier, source, protocol, batch_size, strategy):
            scores = _checked(scores, labels, count)
            np.add.at(confusion, (labels, scores.argmax(axis=1)), 1)
            in_top5 += int(np.sum(_rank(scores, labels) < 5))
            loss -= float(np.sum(np.log(np.maximum(scores[np.arange(len(labels)), labels], _TINY), dtype="float64")))
            bar.set_postfix(top1=f"{100 * np.trace(confusion) / confusion.sum():.2f} %", refresh=False)
            bar.update(len(labels))
    if confusion.sum() != source.num_examples:
        raise RuntimeError(
            f"Each of {source.num_examples} images must be counted once. Received: {confusion.sum()} answers."
        )
    return Result(names, confusion, in_top5, loss / source.num_examples)


def check_classes(class_names: Sequence[str] | None, source: Source) -> tuple[str, ...]:
    """Refuses a network whose classes are not the set's, or stand in another order.

    Names that are only numbers fit any others. ImageNet's classes may go by their WordNet ids.

    Args:
        class_names: the network's, or None if they are not known.
        source: the set.

    Returns:
        The names: the network's own, unless they are only numbers.

    Example:
    >>> from keras_resnet.data.storage import Table
    >>> images = Source("pets", "test", ("cat", "dog"), Table(np.zeros((1, 8, 8, 3), "uint8"), np.zeros(1, int)))
    >>> check_classes(("0", "1"), images)
    ('cat', 'dog')
    """
    theirs = source.class_names
    class_names = theirs if class_names is None else tuple(class_names)
    if len(class_names) != len(theirs):
        raise ValueError(
            f"The network's classes must be those of the set {source.name!r}, which has {len(theirs)}. "
            f"Received: a network of {len(class_names)} classes."
        )

    def keys(names):
        return [normalized(name).replace(" ", "") for name in spelled_out(names)]

    if not _are_numbers(class_names) and not _are_numbers(theirs):
        for i, (own, other) in enumerate(zip(keys(class_names), keys(theirs))):
            if own != other:
                raise ValueError(
                    f"The network's classes must be those of the set {source.name!r}, in their order. "
                    f"Received: class {i} is {class_names[i]!r} to the network and {theirs[i]!r} in the set."
                )
    return theirs if _are_numbers(class_names) else class_names


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.isdigit() for name in names)


def _answers(
    classifier: Classifier, source: Source, protocol: str, batch_size: int, strategy: tf.distribute.Strategy
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields labels and probabilities of the examples, in batches."""
    with strategy.scope():
        stacks, classify = PROTOCOLS[protocol](classifier)
    replicas = strategy.num_replicas_in_sync
    # Whole images have sizes of their own; only pixels come in one size.
    share = 1 if len(stacks) > 1 and source.encoded else math.ceil(batch_size / replicas)
    ask = _separately(classify) if classifier.model is None else _on_replicas(classify, strategy)
    batches = tf.data.Dataset.zip(tuple(_batches(source, stack, share) for stack in stacks))
    for group in _groups(batches, replicas):
        inputs = [tuple(images for images, _, _ in views) for views in group]
        for views, scores in zip(group, ask(inputs)):
            _, labels, weights = views[0]
            real = weights.numpy() > 0  # what only fills the last batch has no weight
            yield labels.numpy()[real], np.asarray(scores, "float32")[real]


def _batches(source: Source, stack: augmentation.Stack | None, batch_size: int) -> tf.data.Dataset:
    if stack is not None:
        return pipeline.evaluation(source, stack, batch_size)
    return source.dataset().map(lambda image, label: (image, label, 1.0)).batch(batch_size).prefetch(2)


def _groups(elements: Iterable, size: int) -> Iterator[list]:
    elements = iter(elements)
    try:
        while group := list(itertools.islice(elements, size)):
            yield group
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"The set has a bad image. {reason(error)}") from error


def _separately(classify: Callable) -> Callable:
    return lambda inputs: [classify(*images) for images in inputs]


def _on_replicas(classify: Callable, strategy: tf.distribute.Strategy) -> Callable:
    """From the inputs of each replica to what each replica answers."""

    @tf.function(reduce_retracing=True)
    def run(inputs):
        return strategy.run(classify, args=inputs)

    def ask(inputs):
        # Where the set ends, a replica without images repeats the first one's work, which `zip` then leaves out.
        inputs = inputs + inputs[:1] * (strategy.num_replicas_in_sync - len(inputs))

        def distributed(i):
            return strategy.experimental_distribute_values_from_function(
                lambda context: inputs[context.replica_id_in_sync_group][i]
            )

        return strategy.experimental_local_results(run(tuple(map(distributed, range(len(inputs[0]))))))

    return ask


def _checked(scores: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    if scores.shape != (len(labels), classes) or not np.isfinite(scores).all():
        wrong = "not a number" if scores.shape == (len(labels), classes) else f"of shape {scores.shape}"
        raise ValueError(f"A network must give probabilities of {classes} classes. Received: some that are {wrong}.")
    return scores


def _rank(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes come before the right one; of equal ones the first comes first, as `argmax` has it."""
    own = scores[np.arange(len(labels)), labels][:, np.newaxis]
    earlier = np.arange(scores.shape[1]) < labels[:, np.newaxis]
    return np.sum((scores > own) | ((scores == own) & earlier), axis=1)
