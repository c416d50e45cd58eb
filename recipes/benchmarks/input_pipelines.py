"""The input pipeline against its peers: images a second to batches of 64 of 224 pixels, with the paper's whole stack.

All contenders read the same encoded images from memory, with as many threads as there are cores. Antialiasing is off,
where it can be (PIL always has it). Each call makes a new iterator, so that none works while another is measured.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from benchmarks import torch_input

from keras_resnet.data import augmentation, pipeline
from keras_resnet.data.storage import Source, Table

BATCH = 64
THREADS = os.cpu_count() or 1


def measurements(
    quick: bool, peers_python: str | None, folder: str | None
) -> list[tuple[str, str, dict[str, Callable[[], float]]]]:
    """Title, unit and contenders of each table; of the JPEGs in a folder, or of drawn ones."""
    if folder:
        images = np.array([path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))], object)
    else:
        images = generated(64 if quick else 1000)
    what = f"{len(images)} {'photographs' if folder else 'drawn JPEGs of 500x375'}"
    title = f"the paper's input stack, {what}, {np.mean([len(image) for image in images]) / 1000:.0f} kB"
    running = contenders(images, 4 if quick else 30, peers_python)
    small = {"keras_resnet": cifar(20 if quick else 400)}
    return [(title, "images/s", running), ("CIFAR-10's stack, from memory", "images/s", small)]


def generated(count: int) -> np.ndarray:
    """JPEGs as hard to decode as photographs: structure at all scales, about 100 kB each."""
    random, images = np.random.default_rng(0), np.empty(count, object)
    for i in range(count):
        picture = np.full((375, 500, 3), 128.0)
        for cells in (4, 16, 64, 256):
            size = (375 // cells + 2, 500 // cells + 2)
            picture += tf.image.resize(random.normal(0, 0.9 * cells**0.6, (*size, 3)), (375, 500), "bicubic").numpy()
        picture += random.normal(0, 4.5, (375, 500, 1))
        images[i] = tf.io.encode_jpeg(np.uint8(np.clip(picture, 0, 255)), quality=97).numpy()
    return images


def contenders(images: np.ndarray, batches: int, peers_python: str | None) -> dict[str, Callable[[], float]]:
    """The paper's stack by several hands; the last are ours."""
    source = Source("benchmark", "train", ("all",), Table(images, np.zeros(len(images), np.int64)))
    stack = (augmentation.ScaleJitter(antialias=False), *augmentation.paper_imagenet()[1:])

    def ours(stack):
        return rate(pipeline.training(source, stack, BATCH, seed=0, threads=THREADS), batches)

    others = {
        "decoding whole, in tf.data": whole,
        "keras-cv's layers": keras_cv,
        "decoding whole and no more": decode_only,
    }
    found = {name: rate(make(source), batches) for name, make in others.items()}
    if peers_python is None:
        print("PyTorch is left out: give --peers_python, an interpreter that has torch and PIL.")
    else:
        folder = Path(tempfile.mkdtemp())
        for number, image in enumerate(images):
            (folder / f"{number:05}.jpg").write_bytes(image)
        found |= [torch_input.contender(peers_python, folder, THREADS, batches)]
    found["its scaling and cropping alone"] = ours(stack[:2])
    found["it with the mean left to the device"] = ours(augmentation.for_device(stack)[0])
    return found | {"keras_resnet": ours(stack)}


def rate(dataset: tf.data.Dataset, batches: int) -> Callable[[], float]:
    """A function that gives images a second of a dataset's batches."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = THREADS
    dataset = dataset.with_options(options)

    def images_a_second() -> float:
        iterator = iter(dataset)
        for _ in range(2):
            next(iterator)
        start = time.perf_counter()
        for _ in range(batches):
            images = next(iterator)[0]
        return len(images) * batches / (time.perf_counter() - start)

    return images_a_second


def whole(source: Source) -> tf.data.Dataset:
    """As tutorials have it: decode all of the image, resize it, crop it, and calculate with TensorFlow's operations."""
    vectors = tf.constant([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    values = tf.constant([0.2175, 0.0188, 0.0045])

    def prepare(number, pair):
        seed = tf.stack([number, 0])
        image = tf.io.decode_jpeg(pair[0], channels=3)
        size = tf.shape(image)[:2]
        shorter = tf.random.stateless_uniform([], seed, 256, 481, tf.int32)
        image = tf.image.resize(image, shorter * size // tf.reduce_min(size), antialias=False)
        image = tf.image.stateless_random_crop(image, (224, 224, 3), seed + 1)
        image = tf.image.stateless_random_flip_left_right(image, seed + 2)
        alpha = tf.random.stateless_normal([3], seed + 3, stddev=0.1)
        image += 255 * tf.linalg.matvec(vectors, alpha * values)
        return image - tf.constant(augmentation.IMAGENET_MEAN), pair[1]

    return _batched(source.stream(seed=0).enumerate().map(prepare, THREADS))


def keras_cv(source: Source) -> tf.data.Dataset:
    """keras-cv's layers, with its own colour jitter, which is the nearest that it has."""
    import keras_cv as cv

    crop = cv.layers.RandomCropAndResize((224, 224), crop_area_factor=(0.3, 0.9), aspect_ratio_factor=(1.0, 1.0))
    flip = cv.layers.RandomFlip("horizontal")
    jitter = cv.layers.RandomColorJitter((0, 255), 0.1, 0.1, 0.1, 0.05)

    def prepare(image, label):
        image = crop(tf.cast(tf.io.decode_jpeg(image, channels=3), tf.float32), training=True)
        image = jitter(flip(image, training=True), training=True)
        return tf.ensure_shape(image, (224, 224, 3)) - tf.constant(augmentation.IMAGENET_MEAN), label

    return _batched(source.stream(seed=0).map(prepare, THREADS))


def decode_only(source: Source) -> tf.data.Dataset:
    """All of the image, and nothing with it: of images of any size, a corner is batched."""
    return _batched(
        source.stream(seed=0).map(lambda image, label: (tf.io.decode_jpeg(image, channels=3)[:1, :1], label), THREADS)
    )


def cifar(batches: int) -> Callable[[], float]:
    """The paper's other stack on 32-pixel images that lie decoded in memory, in batches of 128."""
    images = np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), dtype="uint8")
    source = Source("benchmark", "train", ("all",), Table(images, np.zeros(50_000, np.int64)), encoded=False)
    return rate(pipeline.training(source, augmentation.cifar(), 128, seed=0, threads=THREADS), batches)


def _batched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    return dataset.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
