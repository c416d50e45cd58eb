"""Other people's names for our variables: one table of rules a source, and one function that reads them all.

A rule gives the name of a layer of ours and theirs. `{s}`, `{b}` and `{i}` are numbers; `{b-1}` is the number less one:
we count stages and blocks from 1, as the paper does, and Python's lists from 0.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping

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
_KERAS_FILE_VARIABLES = {
    "kernel": "/vars/0",
    "bias": "/vars/1",
    "gamma": "/vars/0",
    "beta": "/vars/1",
    "moving_mean": "/vars/2",
    "moving_variance": "/vars/3",
}
# Caffe has a batch norm in two layers: BN (mean, variance and a factor that both are to be divided by) and Scale.
_CAFFE_VARIABLES = {
    "kernel": "/0",
    "bias": "/1",
    "gamma": "/0",
    "beta": "/1",
    "moving_mean": "/0",
    "moving_variance": "/1",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How a source names, orders and means its variables.

    Args:
        layers: our names of layers to theirs; empty if they are ours.
        variables: our names of a layer's variables to what theirs append to the layer's name.
        torch_axes: whether kernels are `(out, in, h, w)` instead of `(h, w, in, out)`.
        epsilon: the batch norms' epsilon; ours is 1e-5.
        biases: whether convolutions before a batch norm have biases.
        scale_layers: what begins the name of a batch norm, and of the layer beside it that has gamma and beta.
        convolutional_head: whether the classifier is a 1x1 convolution.
        prefix: a pattern of what a file has before the layers' names.
        divisor: what a batch norm's name gets appended for the number that divides its statistics.
        ignored: a pattern of names that a file may have and that no layer needs.
        requires: settings of the architecture that the source always has. Its files do not show them, so that a model
            with others would load them and answer wrongly.
    """

    layers: Mapping[str, str]
    variables: Mapping[str, str]
    torch_axes: bool = False
    epsilon: float = 1e-5
    biases: bool = False
    scale_layers: tuple[str, str] | None = None
    divisor: str | None = None
    prefix: str = ""
    convolutional_head: bool = False
    ignored: str = ""
    requires: Mapping[str, str] = dataclasses.field(default_factory=dict)


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

_KERAS_HUB = {
    "stem_conv": "conv1_conv",
    "stem_bn": "conv1_bn",
    "stage{s}_block{b}_conv{i}": "stack{s-1}_block{b-1}_{i}_conv",
    "stage{s}_block{b}_bn{i}": "stack{s-1}_block{b-1}_{i}_bn",
    "stage{s}_block{b}_shortcut_conv": "stack{s-1}_block{b-1}_0_conv",
    "stage{s}_block{b}_shortcut_bn": "stack{s-1}_block{b-1}_0_bn",
    "predictions": "predictions",
}
_CIFAR_TORCH = _TORCHVISION | {"predictions": "linear"}


def _caffe(*numbered_stages: int) -> dict[str, str]:
    """Caffe calls the blocks of a stage a, b, c ...; in the deeper networks' long stages a, b1, b2 ..."""
    rules = {"stem_conv": "conv1", "stem_bn": "bn_conv1"}
    for stage in (1, 2, 3, 4):
        block = "{s+1}{b:numbered}" if stage in numbered_stages else "{s+1}{b:letter}"
        for ours, branch in (("conv{i}", "2{i:letter}"), ("shortcut_conv", "1")):
            rules[f"stage{{s={stage}}}_block{{b}}_{ours}"] = f"res{block}_branch{branch}"
            rules[f"stage{{s={stage}}}_block{{b}}_{ours.replace('conv', 'bn')}"] = f"bn{block}_branch{branch}"
    return rules | {"predictions": "fc1000"}


def _torch(layers: dict[str, str], **requires: str) -> Layout:
    return Layout(
        layers=layers,
        variables=_TORCH_VARIABLES,
        torch_axes=True,
        ignored=r".*\.num_batches_tracked",
        requires=requires or {"stride_on": "3x3"},
    )


def _caffe_layout(*numbered_stages: int) -> Layout:
    return Layout(
        layers=_caffe(*numbered_stages),
        variables=_CAFFE_VARIABLES,
        torch_axes=True,
        scale_layers=("bn", "scale"),
        divisor="/2",
        requires={"stride_on": "1x1"},
    )


_KERAS_FILE_PREFIX = r"(.*/)?layers/(?=[^/]+/)"
_KERAS_APPLICATIONS_LAYOUT = Layout(
    layers=_KERAS_APPLICATIONS,
    variables=_KERAS_VARIABLES,
    epsilon=1.001e-5,
    biases=True,
    requires={"stride_on": "1x1"},
)
LAYOUTS: dict[str, Layout] = {
    "keras_resnet": Layout(layers={}, variables=_KERAS_VARIABLES),
    "keras_file": Layout(
        layers={}, variables=_KERAS_FILE_VARIABLES, prefix=_KERAS_FILE_PREFIX, ignored=r".*seed_generator.*"
    ),
    "torchvision": _torch(_TORCHVISION),
    "timm": _torch(_TIMM_SE),
    "timm_d": _torch(_TIMM_D),
    "timm_v2": dataclasses.replace(_torch(_TIMM_V2), convolutional_head=True),
    "pytorch_resnet_cifar10": _torch(_CIFAR_TORCH, zero_channels="around"),
    "keras_applications": _KERAS_APPLICATIONS_LAYOUT,
    "keras_applications_file": dataclasses.replace(
        _KERAS_APPLICATIONS_LAYOUT, variables=_KERAS_FILE_VARIABLES, prefix=_KERAS_FILE_PREFIX
    ),
    "keras_hub": Layout(
        layers=_KERAS_HUB,
        variables=_KERAS_FILE_VARIABLES,
        prefix=_KERAS_FILE_PREFIX,
        ignored=r".*seed_generator.*",
        requires={"stride_on": "3x3"},
    ),
    "caffe": _caffe_layout(),
    "caffe_deep": _caffe_layout(2, 3),
}


def layer_name(layer: str, layout: Layout) -> str | None:
    """A source's name for a layer of ours, or None where it has no such layer.

    Example:
    >>> layer_name("stage2_block1_conv3", LAYOUTS["torchvision"])
    'layer2.0.conv3'
    """
    if not layout.layers:
        return layer
    for ours, theirs in layout.layers.items():
        match = _pattern(ours).fullmatch(layer)
        if match:
            return theirs.format(**_forms({key: int(value) for key, value in match.groupdict().items()}))
    return None


@functools.cache
def _pattern(rule: str) -> re.Pattern:
    rule = re.sub(r"{(\w)}", r"(?P<\1>\\d+)", rule)
    return re.compile(re.sub(r"{(\w)=(\d)}", r"(?P<\1>\2)", rule))


class _Number(int):
    """A number that `str.format` can write as Caffe does: 3 as c (`letter`) or b2 (`numbered`)."""

    def __format__(self, form: str) -> str:
        letter = chr(ord("a") + self - 1)
        return {"letter": letter, "numbered": "a" if self == 1 else f"b{self - 1}"}.get(form, str(int(self)))


def _forms(numbers: dict[str, int]) -> dict[str, int]:
    shifted = {f"{key}{shift:+}": value + shift for key, value in numbers.items() for shift in (-1, 1)}
    return {key: _Number(value) for key, value in numbers.items()} | shifted


def to_keras_axes(array: np.ndarray, rank: int) -> np.ndarray:
    """A PyTorch kernel in Keras's order of axes; `rank` is 2 for a classifier, also one that is a 1x1 convolution."""
    if array.ndim == 4 and rank == 2 and array.shape[2:] == (1, 1):
        array = array[:, :, 0, 0]
    return array.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim, range(array.ndim)))


def to_torch_axes(array: np.ndarray, convolutional_head: bool = False) -> np.ndarray:
    """A Keras kernel in PyTorch's order of axes."""
    array = array.transpose({4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, range(array.ndim)))
    return array[:, :, None, None] if convolutional_head and array.ndim == 2 else array
