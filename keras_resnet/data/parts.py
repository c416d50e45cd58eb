"""What a stack is made of: `part(images, key)` gives images, and is a pure function of the two.

`images` is one image `(height, width, channels)` with one key, or a batch of them with a key each; a part that works
on one image at a time says so in `one_by_one`. Values run from 0 to 255. A part that only moves pixels keeps their
type; what calculates gives float32.
"""

import dataclasses
import zlib
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from keras_resnet.data import draws, windows


class Part:
    """One step of a stack. Subclasses define `__call__(images, key)`."""

    one_by_one: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class Random(Part):
    """A part that draws. Its draws depend on the example's key and on the part's own name, not on its neighbours.

    So a stack with one part more or less draws the same for the others. Two parts of one class in a stack would draw
    the same numbers: `salt` tells them apart.
    """

    salt: int = dataclasses.field(default=0, kw_only=True)

    def own(self, key: tf.Tensor) -> tf.Tensor:
        """This part's own key, or keys."""
        return draws.jump(key, zlib.crc32(type(self).__name__.encode()) + (self.salt << 32))


class Geometric(Part):
    """A part that can say what is to be seen before there are any pixels: see `windows.View`."""

    resamples: ClassVar[bool] = False
    mirrors: ClassVar[bool] = False

    def view(self, view: windows.View, key: tf.Tensor) -> windows.View:
        """The view of what this part makes of what `view` sees."""
        raise NotImplementedError

    def on_batch(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """What this part makes of a batch of images of one size."""
        raise NotImplementedError

    def __call__(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Images (or one encoded image), and a key each, to images."""
        if images.dtype == tf.string or images.shape.rank == 3:
            return windows.render(images, lambda view: self.view(view, key))
        refuse_batch(self, images)
        return self.on_batch(images, key)


class Affinity(NamedTuple):
    """What an affine part does to an image: `image * scale + color + mean`.

    Of shape `(channels,)` are `scale` (or the number 1) and `color` (`(batch, channels)` if each image has its own);
    `mean` is an image or None.
    """

    scale: Any = 1.0
    color: Any = 0.0
    mean: Any = None

    def then(self, after: "Affinity") -> "Affinity":
        """Both in one."""
        mean = after.mean if self.mean is None else self.mean * after.scale + (0 if after.mean is None else after.mean)
        return Affinity(self.scale * after.scale, self.color * after.scale + after.color, mean)

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Images of any type to float32."""
        shape = tf.shape(images)
        width = shape[-2]

        def along_a_row(values):
            return tf.tile(tf.cast(values, tf.float32)[..., tf.newaxis, :], [1] * (len(values.shape) - 1) + [width, 1])

        # Three numbers broadcast over the last axis take 3 times as long as a row of them: the inner loop is a row's.
        rows = tf.reshape(tf.cast(images, tf.float32), (*tf.unstack(shape[:-2]), width * shape[-1]))
        for values, combine in ((self.scale, tf.multiply), (self.color, tf.add)):
            if hasattr(values, "shape"):
                row = along_a_row(values)
                rows = combine(rows, tf.reshape(row, (*tf.unstack(tf.shape(row)[:-2]), 1, width * shape[-1])))
        result = tf.reshape(rows, shape)
        return result if self.mean is None else result + tf.cast(self.mean, tf.float32)


class Affine(Part):
    """A part that adds to colours and scales them. Neighbours of this kind are executed as one."""

    def affinity(self, key: tf.Tensor) -> Affinity:
        """What it does to the images with these keys."""
        raise NotImplementedError

    def __call__(self, images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Images, and a key each, to float32 images."""
        return self.affinity(key)(images)


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """A size as height and width; an integer is both."""
    height, width = (size, size) if isinstance(size, int) else size
    if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
        raise ValueError(f"A size must be a positive integer or a pair of them. Received: {size!r}.")
    return height, width


def refuse_batch(part: Part, images: tf.Tensor) -> None:
    """Complains where a part that takes one image at a time gets several, or something that is no image."""
    if part.one_by_one or images.shape.rank != 4:
        wanted = "one image (height, width, channels)" + ("" if part.one_by_one else " or a batch of images")
        raise ValueError(
            f"{type(part).__name__} takes {wanted}; use it before the images are batched. "
            f"Received: shape {images.shape}."
        )
