"""Packing a source into TFRecord files: images no larger than training needs, read in long runs from few files.

A shard is written under a hidden name and renamed when it is whole, with what is to be known of it in a file beside it.
So work that was cut off goes on with the shards that are missing.
"""

import json
import os
import pathlib
from concurrent import futures
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from keras_resnet.data.geometry import CenterCrop, Resize
from keras_resnet.data.storage import Source
from keras_resnet.data.tfrecords import LABELS, SIZES, open_tfrecords
from keras_resnet.data.windows import decode

QUALITY = 95  # of what must be encoded anew; what is small enough stays as it is, to the byte
_PER_SHARD, _MOST_SHARDS = 256, 1024


def pack(
    source: Source,
    folder: str | os.PathLike,
    shorter_side: int | None = 480,
    shards: int | None = None,
    mean_size: int | None = None,
    threads: int | None = None,
) -> Source:
    """Writes a source as TFRecord files with the keys of TF-Slim, or what is missing of them.

    Images whose shorter side is longer than `shorter_side` are made that small and encoded as JPEG of quality 95; all
    others are copied byte for byte. An image that cannot be decoded is left out, and named in `bad-SPLIT.txt`.

    Args:
        source: what to pack.
        folder: a local folder; several splits go into one.
        shorter_side: the longest that a shorter side may be; `None` copies every image.
        shards: how many files, at most one for each image; by default one for each 256 images, at most 1024.
        mean_size: whether to compute the mean image of this height and width, of centre crops at 8/7 of the size (256
            for 224), into `mean-SPLIT.npy`: `SubtractMean(np.load(path))` takes it.
        threads: how many shards are written at a time; by default one for each core.

    Returns:
        The packed source.

    Example:
    >>> from keras_resnet.data.sources import open_source
    >>> pack(open_source("photos", "train"), "packed", mean_size=224)  # doctest: +SKIP
    Source(name='packed', split='train', encoded=True)
    """
    folder, split = pathlib.Path(folder), source.split.partition("[")[0]
    folder.mkdir(parents=True, exist_ok=True)
    shards = min(shards or min(-(-source.num_examples // _PER_SHARD), _MOST_SHARDS), source.num_examples)
    settings = {"source": source.name, "split": source.split, "examples": source.num_examples, "shards": shards}
    _hold_to(folder / f".{split}.json", settings | {"shorter_side": shorter_side, "mean_size": mean_size})
    _write(folder / LABELS, "".join(f"{i}:{name}\n" for i, name in enumerate(source.class_names)).encode())
    files = [folder / f"{split}-{i:05}-of-{shards:05}" for i in range(shards)]
    missing = [i for i, file in enumerate(files) if not file.exists()]
    shrink = _shrinker(source, shorter_side, mean_size)
    done = source.num_examples * (shards - len(missing)) // shards
    with (
        tqdm.tqdm(total=source.num_examples, initial=done, unit=" images", disable=not missing) as progress,
        futures.ThreadPoolExecutor(threads) as pool,
    ):
        writing = [pool.submit(_write_shard, source.share(i, shards), files[i], shrink, progress) for i in missing]
        try:
            for shard in futures.as_completed(writing):
                shard.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    _summarise(folder, split, files, mean_size)
    return open_tfrecords(str(folder), split)


def bad_images(folder: str | os.PathLike, split: str) -> list[str]:
    """The names of the images that `pack` has left out.

    Example:
    >>> bad_images("packed", "train")  # doctest: +SKIP
    ['photos/train/rose/7.jpg']
    """
    return (pathlib.Path(folder) / f"bad-{split}.txt").read_text().splitlines()


def _hold_to(path: pathlib.Path, settings: dict[str, Any]) -> None:
    """Keeps the settings that work was begun with; other ones would give a folder of some of these, some of those."""
    if path.exists() and (before := json.loads(path.read_text())) != settings:
        raise ValueError(
            "This folder was begun with other settings: use these again, or another folder. "
            f"Received: {settings}, before: {before}, in {path.parent}."
        )
    _write(path, json.dumps(settings).encode())


def _write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file as a whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(content)
    scratch.replace(path)


def _notes(shard: pathlib.Path) -> pathlib.Path:
    """The file that says what was left out of a shard, and the sum of its images."""
    return shard.with_name(f".{shard.name}.npz")


def _shrinker(source: Source, shorter_side: int | None, mean_size: int | None):
    """The function from a stored image to the one to pack, its size, and its centre (nothing if no mean is wanted)."""

    @tf.function(autograph=False)
    def shrink(image):
        encoded = source.read(image) if source.encoded else tf.io.encode_png(image)
        pixels = decode(encoded)
        centre = tf.zeros(())
        if mean_size:
            resized = Resize(-(-mean_size * 8 // 7), antialias=True)(pixels, None)
            centre = CenterCrop(mean_size)(resized, None)
        size = tf.shape(pixels)[:2]
        if shorter_side is None:
            return encoded, size, centre

        def smaller():
            new = Resize(shorter_side, antialias=True)(pixels, None)
            new = tf.cast(tf.clip_by_value(tf.round(new), 0, 255), tf.uint8)
            return tf.io.encode_jpeg(new, quality=QUALITY), tf.shape(new)[:2]

        encoded, size = tf.cond(tf.reduce_min(size) > shorter_side, smaller, lambda: (encoded, size))
        return encoded, size, centre

    return shrink


def _write_shard(part: Source, file: pathlib.Path, shrink, progress) -> None:
    """Writes one shard and what is to be known of it."""
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    bad, total, count = [], 0.0, 0
    with tf.io.TFRecordWriter(str(scratch)) as writer:
        for number, image, label in part.examples():
            name = part.names(number[tf.newaxis])[0].numpy()
            try:
                encoded, size, centre = (tensor.numpy() for tensor in shrink(image))
            except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError):
                bad.append(name.decode())
            else:
                writer.write(_example(encoded, size, name, int(label), part.class_names))
                total, count = total + centre.astype(np.float64), count + 1
            progress.update()
    with _notes(scratch).open("wb") as notes:
        np.savez(notes, total=total, count=count, bad=np.array(bad, str))
    _notes(scratch).replace(_notes(file))
    scratch.replace(file)


def _example(encoded: bytes, size: np.ndarray, name: bytes, label: int, class_names: tuple[str, ...]) -> bytes:
    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    values = {
        "image/encoded": encoded,
        "image/height": int(size[0]),
        "image/width": int(size[1]),
        "image/filename": name.rpartition(b"/")[2],
        "image/class/label": label,
        "image/class/text": class_names[label].encode(),
    }
    features = tf.train.Features(feature={key: feature(value) for key, value in values.items()})
    return tf.train.Example(features=features).SerializeToString()


def _summarise(folder: pathlib.Path, split: str, files: list[pathlib.Path], mean_size: int | None) -> None:
    """Writes what was left out, how much is in each file, and the mean image."""
    notes = [np.load(_notes(file)) for file in files]
    _write(folder / f"bad-{split}.txt", "".join(f"{name}\n" for shard in notes for name in shard["bad"]).encode())
    sizes = {file.name: (int(shard["count"]), file.stat().st_size) for file, shard in zip(files, notes)}
    _write(folder / SIZES.format(split=split.lower()), json.dumps(sizes, indent=0).encode())
    count = sum(count for count, _ in sizes.values())
    if not count:
        raise ValueError(f"Not one image can be decoded. Received: {folder}, split={split!r}.")
    if mean_size:
        with (folder / f"mean-{split}.npy").open("wb") as file:
            np.save(file, np.float32(sum(shard["total"] for shard in notes) / count))
