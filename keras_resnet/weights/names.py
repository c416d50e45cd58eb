"""Other people's names for our variables: one table of rules a source, and one function that reads them all.

A rule gives the name of a layer of ours and theirs. `{s}`, `{b}` and `{i}` are numbers; `{b-1}` is the number less one:
we count stages and blocks from 1, as the paper does, and Python's lists from 0.
"""

import functools
import re
from typing import NamedTuple

import numpy as np

_TORCH_VARIABLES = {
    "kernel": ".weight",
    "bias": ".bias",
    "gamma": ".weight",
    "beta": ".bias",
    "moving_mean": ".running_mean",
    "moving_variance": ".running_var",
}
_KERAS_VARIABLES = {name: f"/{name}" for name in _TORCH_VARIABLES}


class Layout(NamedTuple):
    """How a source names, orders and means its variables.

    Args:
        layers: our names of layers to theirs.
        variables: our names of a layer's variables to what theirs append to the layer's name.
        torch_axes: whether kernels are `(out, in, h, w)` instead of `(h, w, in, out)`.
        epsilon: the batch norms' epsilon; ours is 1e-5.
        biases: whether convolutions before a batch norm have biases.
        ignored: a pattern of names that a file may have and that no layer needs.
    """

    layers: dict[str, str]
    variables: dict[str, str] = _TORCH_VARIABLES
    torch_axes: bool = True
    epsilon: float = 1e-5
    biases: bool = False
    ignored: str = r".*\.num_batches_tracked"


_TORCHVISION = {
    "stem_conv": "conv1",
    "stem_bn": "bn1",
    "stage{s}_block{b}_conv{i}": "layer{s}.{b-1}.conv{i}",
    "stage{s}_block{b}_bn{i}": "layer{s}.{b-1}.bn{i}",
    "stage{s}_block{b}_shortcut_conv": "layer{s}.{b-1}.downsample.0",
    "stage{s}_block{b}_shortcut_bn": "layer{s}.{b-1}.downsample.1",
    "predictions": "fc",
}
_TIMM_SE = _TORCHVISION | {
    "stage{s}_block{b}_se_reduce": "layer{s}.{b-1}.se.fc1",
    "stage{s}_block{b}_se_expand": "layer{s}.{b-1}.se.fc2",
}
_TIMM_D = _TIMM_SE | {
    "stem_conv1": "conv1.0",
    "stem_bn1": "conv1.1",
    "stem_conv2": "conv1.3",
    "stem_bn2": "conv1.4",
    "stem_conv3": "conv1.6",
    "stem_bn3": "bn1",
    "stem_conv4": "maxpool.0",
    "stem_bn4": "maxpool.1",
    "stage{s}_block{b}_shortcut_conv": "layer{s}.{b-1}.downsample.1",
    "stage{s}_block{b}_shortcut_bn": "layer{s}.{b-1}.downsample.2",
}
_TIMM_V2 = {
    "stem_conv": "stem.conv",
    "stage{s}_block{b}_conv{i}": "stages.{s-1}.blocks.{b-1}.conv{i}",
    "stage{s}_block{b}_bn{i}": "stages.{s-1}.blocks.{b-1}.norm{i}",
    "stage{s}_block{b}_shortcut_conv": "stages.{s-1}.blocks.{b-1}.downsample.conv",
    "head_bn": "norm",
    "predictions": "head.fc",
}
_KERAS_APPLICATIONS = {
    "stem_conv": "conv1_conv",
    "stem_bn": "conv1_bn",
    "stage{s}_block{b}_conv{i}": "conv{s+1}_block{b}_{i}_conv",
    "stage{s}_block{b}_bn{i}": "conv{s+1}_block{b}_{i}_bn",
    "stage{s}_block{b}_shortcut_conv": "conv{s+1}_block{b}_0_conv",
    "stage{s}_block{b}_shortcut_bn": "conv{s+1}_block{b}_0_bn",
    "predictions": "predictions",
}

LAYOUTS: dict[str, Layout] = {
    "torchvision": Layout(_TORCHVISION),
    "timm": Layout(_TIMM_SE),
    "timm_d": Layout(_TIMM_D),
    "timm_v2": Layout(_TIMM_V2),
    "keras_applications": Layout(
        _KERAS_APPLICATIONS, _KERAS_VARIABLES, torch_axes=False, epsilon=1.001e-5, biases=True, ignored=""
    ),
}


def layer_name(layer: str, layout: Layout) -> str | None:
    """A source's name for a layer of ours, or None where it has no such layer.

    Example:
    >>> layer_name("stage2_block1_conv3", LAYOUTS["torchvision"])
    'layer2.0.conv3'
    """
    for ours, theirs in layout.layers.items():
        match = _pattern(ours).fullmatch(layer)
        if match:
            numbers = {key: int(value) for key, value in match.groupdict().items()}
            shifted = {f"{key}{shift:+}": value + shift for key, value in numbers.items() for shift in (-1, 1)}
            return theirs.format(**numbers, **shifted)
    return None


@functools.cache
def _pattern(rule: str) -> re.Pattern:
    return re.compile(re.sub(r"{(\w)}", r"(?P<\1>\\d+)", rule))


def to_keras_axes(array: np.ndarray, rank: int) -> np.ndarray:
    """A PyTorch kernel in Keras's order of axes; `rank` 2 also takes a 1x1 convolution that serves as a classifier."""
    if array.ndim == 4 and rank == 2 and array.shape[2:] == (1, 1):
        array = array[:, :, 0, 0]
    return array.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim, range(array.ndim)))
