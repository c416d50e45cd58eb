"""The demo set: 2,500 procedural pictures in ten classes, to try the whole road on before any data is at hand.

Each picture is a coloured pattern on a coloured ground, under uneven light, with a little warp and noise, in the sizes
and shapes of photographs. Six classes are scattered figures: **bars**, **crescents**, **crosses**, **discs**,
**rings** and **triangles**; four are textures: **bricks**, **checks**, **stripes** and **waves**. Colour, brightness,
place and size are drawn alike for every class, so they tell a classifier nothing. What does is local form, which a
convolutional network finds within a few epochs and a linear model of the pixels does not find at all.

Drawing is a pure function of a fixed seed, the split and the example's number; nothing is downloaded.
"""

import contextlib
import io
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from concurrent import futures

import numpy as np
import tensorflow_datasets as tfds
import tqdm

from keras_resnet.data import files

SIZES = {"train": 2000, "test": 500}
SEED = 2015

# Textures: how deep the point (u, v), counted in cells, lies in the pattern; negative in the ground.
TEXTURES = {
    "bricks": lambda u, v: np.minimum(_to_line(0.8 * u + np.floor(1.4 * v) / 2), _to_line(1.4 * v) / 2) - 0.08,
    "checks": lambda u, v: _exclusive_or(_to_line(0.8 * u) - 0.25, _to_line(0.8 * v) - 0.25),
    "stripes": lambda u, v: _to_line(v) - 0.25,
    "waves": lambda u, v: _to_line(v + 0.35 * np.sin(4.4 * u)) - 0.25,
}

# Figures: how deep the point (x, y) lies in a figure of radius 1 round the origin.
FIGURES = {
    "bars": lambda x, y: np.minimum(0.28 - np.abs(x), 1.2 - np.abs(y)),
    "crescents": lambda x, y: np.minimum(1 - np.hypot(x, y), np.hypot(x - 0.5, y) - 0.8),
    "crosses": lambda x, y: np.minimum(1.1 - np.maximum(np.abs(x), np.abs(y)), 0.26 - np.minimum(np.abs(x), np.abs(y))),
    "discs": lambda x, y: 1 - np.hypot(x, y),
    "rings": lambda x, y: 0.28 - np.abs(np.hypot(x, y) - 0.85),
    "triangles": lambda x, y: 0.64 - np.maximum(-0.1 - y, 0.866 * np.abs(x) + 0.5 * y),
}

CLASS_NAMES = tuple(sorted([*TEXTURES, *FIGURES]))


def draw(label: int, rng: np.random.Generator) -> np.ndarray:
    """Draws one picture.

    Args:
        label: the class, an index into `CLASS_NAMES`.
        rng: the `numpy.random.Generator` that everything about the picture is drawn from.

    Returns:
        A `uint8` array of shape `(height, width, 3)`; the shorter side has 96 to 200 pixels.

    Example:
    >>> image = draw(CLASS_NAMES.index("rings"), np.random.default_rng(0))
    >>> image.ndim, image.dtype.name
    (3, 'uint8')
    """
    height, width = _photograph_size(rng)
    cell = min(height, width) * rng.uniform(0.18, 0.30)
    depth = _pattern(CLASS_NAMES[label], *_plane(height, width, cell, rng), rng)
    inside = np.clip(0.5 + depth * np.float32(cell / rng.uniform(0.6, 2.0)), 0, 1)[..., np.newaxis]
    ground, figure = _two_colours(rng)
    light = 1 + rng.uniform(0, 0.25) * _smooth(height, width, rng)[..., np.newaxis]
    grain = rng.normal(0, rng.uniform(1, 8), (height, width, 1)).astype(np.float32)
    return np.clip((ground + inside * (figure - ground)) * light + grain, 0, 255).astype(np.uint8)


def example(split: str, index: int) -> tuple[np.ndarray, int]:
    """Returns the image and the label of one example of the set, the same at every call.

    Args:
        split: "train" or "test".
        index: the example's number in the split.

    Returns:
        A `uint8` image and an `int` label. Every class has the same number of examples.

    Example:
    >>> image, label = example("train", 17)
    >>> CLASS_NAMES[label]
    'stripes'
    """
    label = index % len(CLASS_NAMES)
    return draw(label, np.random.default_rng([SEED, list(SIZES).index(split), index])), label


def prepare(data_dir: str | os.PathLike | None = None) -> tfds.core.DatasetBuilder:
    """Returns the demo set's tfds builder, and first makes the set if it is not there yet (about ten seconds).

    Several processes may call this at once: each makes the set in a folder of its own, and the first to finish gives
    it its name.

    Args:
        data_dir: the tfds data folder to keep the set in, on a local disk. Without it, the folder tfds uses for
            everything (`$TFDS_DATA_DIR` where that is local, or else `~/tensorflow_datasets`).

    Returns:
        A `tfds.core.DatasetBuilder` whose data is on disk.

    Example:
    >>> train = prepare("/tmp/data").as_dataset(split="train")  # doctest: +SKIP
    """
    if data_dir is not None and files.is_remote(os.fspath(data_dir)):
        raise ValueError(f"The demo set is made, and kept, on a local disk. Received: data_dir={str(data_dir)!r}.")
    if data_dir is None and files.is_remote(os.environ.get("TFDS_DATA_DIR", "")):  # as it is beside a TPU
        data_dir = pathlib.Path("~/tensorflow_datasets").expanduser()
    builder = KerasResnetDemo(data_dir=data_dir)
    if files.is_prepared(builder.data_dir):
        return builder
    final = pathlib.Path(builder.data_dir)
    print(f"Making the demo set: {sum(SIZES.values()):,} pictures, once, in {final}", file=sys.stderr, flush=True)
    final.parent.mkdir(parents=True, exist_ok=True)
    # tfds builds in a temporary folder too, but names it from Python's global random numbers: two workers that have set
    # the same seed would write into the same one.
    with tempfile.TemporaryDirectory(dir=final.parent, prefix="making.") as scratch:
        made = KerasResnetDemo(data_dir=scratch)
        with _silence():
            made.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
        try:
            pathlib.Path(made.data_dir).rename(final)
        except OSError:  # Another process was first.
            if not files.is_prepared(builder.data_dir):
                raise
    return KerasResnetDemo(data_dir=data_dir)


class KerasResnetDemo(tfds.core.GeneratorBasedBuilder):
    """The demo set as a tfds dataset, named `keras_resnet_demo`."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Procedural pictures of six figures and four textures, drawn by the package keras_resnet.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split):
        with futures.ThreadPoolExecutor(2) as pool:
            yield from tqdm.tqdm(
                enumerate(pool.map(lambda index: _encoded(split, index), range(SIZES[split]))),
                desc=f"Demo set, {split}",
                total=SIZES[split],
                delay=5,  # Seconds: no bar where none is needed.
                mininterval=1,
                position=0,
                leave=False,
                file=sys.__stderr__,
            )


def _encoded(split: str, index: int) -> dict[str, bytes | int]:
    """One example as tfds takes it, the image as a JPEG."""
    import tensorflow as tf

    image, label = example(split, index)
    return {"image": tf.io.encode_jpeg(image, quality=90).numpy(), "label": label}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keeps back what tfds prints at every step. What it fails with comes as an exception all the same."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _pattern(name: str, u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How deep each pixel lies in the pattern, in cells."""
    if name in TEXTURES:
        return TEXTURES[name](u, v)
    x, y, radius = _scatter(u, v, rng)
    return radius * FIGURES[name](x / radius, y / radius)


def _scatter(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Puts a figure into each cell: returns the pixels' places relative to their figure's centre, and its radius.

    Each figure is a little off the middle of its cell, a little turned, and of its own size. Only a little: pictures
    have an up, as photographs have.
    """
    kinds = 16  # Figures repeat after 16 cells, which is more than a picture has.
    row, column = np.floor(v).astype(np.int32), np.floor(u).astype(np.int32)
    cell = (row % kinds) * kinds + column % kinds
    off_u, off_v, turn, grow = rng.random((4, kinds * kinds), dtype=np.float32)
    x, y = u - column - 0.5 + (0.15 * (off_u - 0.5))[cell], v - row - 0.5 + (0.15 * (off_v - 0.5))[cell]
    cosine, sine = np.cos(turn - 0.5)[cell], np.sin(turn - 0.5)[cell]
    return cosine * x + sine * y, cosine * y - sine * x, (0.32 + 0.08 * grow)[cell]


def _plane(height: int, width: int, cell: float, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Every pixel's coordinates in the pattern, in cells: moved, turned and a little warped."""
    y, x = np.arange(height, dtype=np.float32)[:, np.newaxis], np.arange(width, dtype=np.float32)
    angle = rng.uniform(-0.4, 0.4)
    across, along = np.float32(np.cos(angle) / cell), np.float32(np.sin(angle) / cell)
    from_u, from_v = rng.uniform(0, 16, 2).astype(np.float32)
    warp = np.float32(rng.uniform(0, 0.25)) * _smooth(height, width, rng)
    return across * x + along * y + from_u + warp, across * y - along * x + from_v - warp


def _smooth(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field in [-1, 1]: three slow waves."""
    y, x = np.arange(height, dtype=np.float32)[:, np.newaxis], np.arange(width, dtype=np.float32)
    waves = rng.normal(0, 4 / max(height, width), (3, 2)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, 3).astype(np.float32)
    return sum(np.sin(a * x + b * y + phase) for (a, b), phase in zip(waves, phases)) / np.float32(3)


def _photograph_size(rng: np.random.Generator) -> tuple[int, int]:
    """A height and a width: the shorter side 96 to 200 pixels, up to 1.6 times as long, two in three landscape."""
    short = int(rng.integers(96, 201))
    long = int(short * rng.uniform(1, 1.6))
    return (short, long) if rng.random() < 2 / 3 else (long, short)


def _two_colours(rng: np.random.Generator) -> np.ndarray:
    """The colours of ground and figure: muted, as far apart in brightness as can be told, either one the brighter."""
    brightness = rng.uniform(40, 215)
    towards_grey = 1 if brightness < 128 else -1
    step = rng.uniform(85, 140) * towards_grey
    tint = rng.normal(0, 14, (2, 3))
    tint -= tint.mean(axis=1, keepdims=True)
    return (np.array([[brightness], [brightness + step]]) + tint).astype(np.float32)


def _to_line(t: np.ndarray) -> np.ndarray:
    """The distance from the nearest whole number: 0 on lines one apart, 0.5 between them."""
    return np.abs(t - np.rint(t))


def _exclusive_or(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The depth in the parts of the plane that lie in one of two patterns and not in both."""
    return np.minimum(np.maximum(a, b), -np.minimum(a, b))
