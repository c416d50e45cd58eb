"""Sources kept nearby: in memory, or on a local disk."""

import dataclasses
import pathlib

import numpy as np

from keras_resnet.data.storage import Source, Table

_SMALL = 64  # pixels a side: where decoding would take longer than all the rest


def cached(source: Source, cache: str | None) -> Source:
    """Keeps a source nearby, so that only the first epoch pays for reading it.

    Args:
        source: images and labels.
        cache: `None` for nothing; `"memory"`, where images stay encoded, but for those of one small size (such as
            CIFAR's): these are decoded to uint8, and then augmented in batches; or a folder on a local disk, to which
            the images are copied as TFRecord files (see `prepare.pack`), once, each split, or part of one, to a folder
            of its own. What cannot be decoded is not copied.

    Returns:
        A source of the same examples; TFRecord files are shuffled as such, so batches differ from those without them.

    Example:
    >>> from keras_resnet.data.sources import open_source
    >>> cached(open_source("demo", "test"), "memory").random_access  # doctest: +SKIP
    True
    """
    if cache is None:
        return source
    if cache == "memory":
        return _decoded_if_small(source.in_memory())
    from keras_resnet.data import prepare

    return prepare.pack(source, pathlib.Path(cache, source.split), shorter_side=None)


def _decoded_if_small(source: Source) -> Source:
    """The same source with images decoded, if all have one small size; a bad image stays encoded, and so do all."""
    import tensorflow as tf

    from keras_resnet.data.windows import decode

    if not source.encoded:
        return source
    encoded, shape, images = source.storage.images, None, None
    for number, image in enumerate(encoded):
        try:
            pixels = decode(tf.constant(image)).numpy()
        except tf.errors.InvalidArgumentError:
            return source
        if images is None:
            shape = pixels.shape
            if max(shape) > _SMALL:
                return source
            images = np.empty((len(encoded), *shape), np.uint8)
        if pixels.shape != shape:
            return source
        images[number] = pixels
    return dataclasses.replace(source, storage=Table(images, source.storage.labels), encoded=False)
