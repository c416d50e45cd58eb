"""Every network as one row of data. Nothing of Keras is needed to read, to check or to count one.

`FAMILIES` is the table; a new network is a new row of it, and its public constructor, its line in
`python -m keras_resnet` and its tests follow from that row. What a block consists of is data as well
(`Unit.convolutions`), so that the builder and the counts cannot disagree about it.
"""

import dataclasses
import difflib
import math
import numbers
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Convolution(NamedTuple):
    """One convolution: odd kernel, symmetric padding of half the kernel, no bias."""

    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1


class Stem(NamedTuple):
    """What comes before the first stage, and the images that it is made for."""

    convolutions: tuple[Convolution, ...]
    max_pool: bool
    image_size: int
    classes: int


class Unit(NamedTuple):
    """One residual unit in its place; the paper's conv2_1 is `stage=1, block=1`."""

    stage: int
    block: int
    channels_in: int
    channels: int
    stride: int
    convolutions: tuple[Convolution, ...]
    drop_rate: float

    @property
    def changes_shape(self) -> bool:
        """Whether the shortcut has to change the shape of what it carries."""
        return self.stride != 1 or self.channels_in != self.channels


class Cost(NamedTuple):
    """What a network costs: trainable parameters, moving statistics, multiply-adds for one image."""

    parameters: int
    statistics: int
    multiply_adds: int


_DEEP = (Convolution(32, 3, 2), Convolution(32, 3), Convolution(64, 3))
STEMS = {
    "imagenet": Stem((Convolution(64, 7, 2),), max_pool=True, image_size=224, classes=1000),
    "cifar": Stem((Convolution(16, 3),), max_pool=False, image_size=32, classes=10),
    "deep": Stem(_DEEP, max_pool=True, image_size=224, classes=1000),
    "deep_strided": Stem((*_DEEP, Convolution(64, 3, 2)), max_pool=False, image_size=224, classes=1000),
}

_CHOICES = {
    "stem": tuple(STEMS),
    "block": ("basic", "bottleneck"),
    "shortcut": ("projection", "identity", "all", "none"),
    "zero_channels": ("after", "around"),
    "stride_on": ("1x1", "3x3"),
    "downsample": ("convolution", "average"),
}


def nearest(word: str, words: Iterable[str]) -> str:
    """Says which of `words` a misspelt `word` may have meant: a sentence for an error message, or nothing.

    Example:
    >>> nearest("resnet_5", ("ResNet50", "Plain34"))
    " Did you mean 'ResNet50'?"
    """
    by_key = {normalized(candidate): candidate for candidate in words}
    close = difflib.get_close_matches(normalized(word), by_key, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(by_key[key]) for key in close)}?" if close else ""


def normalized(name: str) -> str:
    """The form in which names are compared: case, '_' and '-' do not matter.

    Example:
    >>> normalized("Wide_ResNet-50")
    'wideresnet50'
    """
    return str(name).lower().replace("_", "").replace("-", "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """A residual (or plain) network, as settings of the one builder.

    Args:
        depths: number of blocks of each stage.
        widths: width of each stage. A basic block gives `width` channels, a bottleneck `4 * width`.
        stem: `"imagenet"` (7x7/2 and 3x3/2 max pool), `"cifar"` (3x3), `"deep"` (three 3x3 and the pool: ResNet-C/D)
            or `"deep_strided"` (a fourth 3x3 with stride 2 instead of the pool: ResNet-RS).
        block: `"basic"` (two 3x3) or `"bottleneck"` (1x1, 3x3, 1x1).
        shortcut: `"identity"` (the paper's option A: stride 2 and zero channels), `"projection"` (B: a 1x1 convolution
            where the shape changes), `"all"` (C: a 1x1 convolution everywhere) or `"none"` (a plain network).
        zero_channels: where option A puts its zeros: `"after"` the others, or half before and half after (`"around"`).
            The paper does not say.
        stride_on: which convolution of a bottleneck has the stride: `"1x1"` (the paper) or `"3x3"` (v1.5).
        preactivation: batch norm and ReLU before each convolution (He et al. 2016) instead of after.
        groups: groups of a bottleneck's 3x3 convolution (ResNeXt).
        group_width: channels of each group, for a stage of width 64 (ResNeXt: 4; Wide ResNet: 128).
        downsample: how a projection with a stride takes it: `"convolution"`, or `"average"` (a 2x2 average pool before
            a 1x1 convolution of stride 1: ResNet-D).
        squeeze_excite: share of the channels that squeeze-and-excitation keeps (1/16 in its paper); 0: none.
        drop_path: stochastic depth: probability that the last block is dropped in training; linear from 0.
        zero_init_residual: start each block as the identity: the last batch norm's gamma (under pre-activation the
            last convolution) starts at zero.

    Example:
    >>> architecture = Architecture(stem="cifar", depths=(3, 3, 3), widths=(16, 32, 64), shortcut="identity")
    >>> cost(architecture)
    Cost(parameters=269722, statistics=1376, multiply_adds=40551040)
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: str = "imagenet"
    block: str = "basic"
    shortcut: str = "projection"
    zero_channels: str = "after"
    stride_on: str = "1x1"
    preactivation: bool = False
    groups: int = 1
    group_width: int = 64
    downsample: str = "convolution"
    squeeze_excite: float = 0.0
    drop_path: float = 0.0
    zero_init_residual: bool = False

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                hint = nearest(getattr(self, name), choices)
                self._refuse(f"`{name}` must be one of {', '.join(map(repr, choices))}.", name, hint=hint)
        for name in ("depths", "widths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("depths", "widths", "groups", "group_width"):
            values = getattr(self, name)
            values = values if isinstance(values, tuple) else (values,)
            if not values or any(not isinstance(value, numbers.Integral) or value < 1 for value in values):
                self._refuse(f"`{name}` must be whole numbers of 1 or more.", name)
        if len(self.depths) != len(self.widths):
            self._refuse("`depths` and `widths` name the same stages: they must be equally long.", "depths", "widths")
        if self.block == "basic" and (self.groups, self.group_width) != (1, 64):
            self._refuse(
                "Groups belong to the 3x3 convolution of block='bottleneck'.", "block", "groups", "group_width"
            )
        if self.block == "bottleneck" and any(self._inner(width) < self.groups for width in self.widths):
            self._refuse("A group has no channel left: widths * group_width // 64 is 0.", "widths", "group_width")
        if not 0 <= self.drop_path < 1 or not 0 <= self.squeeze_excite <= 1:
            self._refuse("`drop_path` must lie in [0, 1), `squeeze_excite` in [0, 1].", "drop_path", "squeeze_excite")
        if self.shortcut == "none" and (self.drop_path or self.zero_init_residual):
            self._refuse(
                "A plain network has nothing left where a block is dropped or starts at zero.",
                *("shortcut", "drop_path", "zero_init_residual"),
            )
        if self.shortcut == "identity" and any(unit.channels < unit.channels_in for unit in self.units()):
            self._refuse("An identity shortcut can add zero channels, not take channels away.", "shortcut", "widths")

    def _refuse(self, sentence: str, *names: str, hint: str = ""):
        received = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        raise ValueError(f"{sentence} Received: {received}.{hint}")

    @property
    def image_size(self) -> int:
        """Height and width of the images that the stem is made for."""
        return STEMS[self.stem].image_size

    @property
    def classes(self) -> int:
        """Number of classes of the data set that the stem is made for."""
        return STEMS[self.stem].classes

    @property
    def stem_stride(self) -> int:
        """How many input pixels are one pixel of the first stage, along an edge."""
        stem = STEMS[self.stem]
        return math.prod(c.stride for c in stem.convolutions) * (2 if stem.max_pool else 1)

    @property
    def stride(self) -> int:
        """How many input pixels are one pixel of the last stage, along an edge."""
        return self.stem_stride * 2 ** (len(self.depths) - 1)

    def units(self) -> Iterator[Unit]:
        """The residual units in order."""
        channels, total = STEMS[self.stem].convolutions[-1].filters, sum(self.depths)
        for stage, (depth, width) in enumerate(zip(self.depths, self.widths), 1):
            for block in range(1, depth + 1):
                stride = 2 if stage > 1 and block == 1 else 1
                convolutions = self._residual_function(width, stride)
                # Stochastic depth's linear rule (Huang et al. 2016, equation 4): block l of L is dropped at l/L.
                position = sum(self.depths[: stage - 1]) + block
                drop_rate = self.drop_path * position / total
                yield Unit(stage, block, channels, convolutions[-1].filters, stride, convolutions, drop_rate)
                channels = convolutions[-1].filters

    def _residual_function(self, width: int, stride: int) -> tuple[Convolution, ...]:
        if self.block == "basic":
            return Convolution(width, 3, stride), Convolution(width, 3)
        inner = self._inner(width)
        first, second = (stride, 1) if self.stride_on == "1x1" else (1, stride)
        return Convolution(inner, 1, first), Convolution(inner, 3, second, self.groups), Convolution(4 * width, 1)

    def _inner(self, width: int) -> int:
        return width * self.group_width // 64 * self.groups

    def projects(self, unit: Unit) -> bool:
        """Whether this unit's shortcut is a convolution."""
        return self.shortcut == "all" or (self.shortcut == "projection" and unit.changes_shape)

    def squeezed(self, channels: int) -> int:
        """Channels between squeeze and excitation, 0 without it."""
        return max(1, int(channels * self.squeeze_excite)) if self.squeeze_excite else 0


def cifar(depth: int, **settings) -> Architecture:
    """The paper's CIFAR network of this depth: three stages of n blocks, 16, 32 and 64 wide (section 4.2).

    Args:
        depth: layers with weights: 6n + 2 of basic blocks, 9n + 2 of bottlenecks.
        **settings: other fields of `Architecture`; option A (`shortcut="identity"`) if nothing else is said.

    Returns:
        The `Architecture`.

    Example:
    >>> cifar(62).depths
    (10, 10, 10)
    """
    layers = 9 if settings.get("block") == "bottleneck" else 6
    n, rest = divmod(depth - 2, layers)
    if rest or n < 1:
        low = max(1, n) * layers + 2
        raise ValueError(
            f"A CIFAR network of {settings.get('block', 'basic')} blocks has {layers}n + 2 layers. "
            f"Received: depth={depth}. The nearest depths are {low} and {low + layers}."
        )
    row = {"stem": "cifar", "widths": (16, 32, 64), "shortcut": "identity"} | settings
    return Architecture(depths=(n, n, n), **row)


def cost(
    architecture: Architecture, image_size: int | None = None, channels: int = 3, classes: int | None = None
) -> Cost:
    """Counts parameters and multiply-adds, without building anything.

    As the paper does (section 3.3), multiply-adds are those of the convolutions and of the classifier.

    Args:
        architecture: what to count.
        image_size: height and width of the input; the stem's own if None.
        channels: channels of the input.
        classes: number of classes; the stem's own if None.

    Returns:
        A `Cost`: trainable parameters, moving means and variances, multiply-adds of one image.

    Example:
    >>> cost(NAMED["ResNet50"]).parameters
    25557032
    """
    classes = classes or architecture.classes
    size = image_size or architecture.image_size
    weights = normalized_channels = multiply_adds = 0

    def convolve(channels: int, size: int, convolution: Convolution) -> tuple[int, int]:
        nonlocal weights, multiply_adds
        filters, kernel, stride, groups = convolution
        size = math.ceil(size / stride)  # every padding is half of an odd kernel
        kernels = kernel * kernel * channels // groups * filters
        weights += kernels
        multiply_adds += size * size * kernels
        return filters, size

    stem, before = STEMS[architecture.stem], architecture.preactivation
    for convolution in stem.convolutions:
        channels, size = convolve(channels, size, convolution)
        normalized_channels += channels
    if before:  # the last one of the stem is normalised by the first unit
        normalized_channels -= channels
    size = math.ceil(size / 2) if stem.max_pool else size

    for unit in architecture.units():
        if architecture.projects(unit):
            convolve(unit.channels_in, size, Convolution(unit.channels, 1, unit.stride))
            normalized_channels += 0 if before else unit.channels
        for convolution in unit.convolutions:
            normalized_channels += channels if before else convolution.filters
            channels, size = convolve(channels, size, convolution)
        squeezed = architecture.squeezed(channels)
        weights += 2 * channels * squeezed + squeezed + (channels if squeezed else 0)
        multiply_adds += 2 * channels * squeezed
    normalized_channels += channels if before else 0

    weights += channels * classes + classes + 2 * normalized_channels
    return Cost(weights, 2 * normalized_channels, multiply_adds + channels * classes)


def _bottleneck(*depths: int, **settings) -> Architecture:
    return Architecture(block="bottleneck", depths=depths, **settings)


_V15 = {"stride_on": "3x3"}
_V2 = {"preactivation": True, "stride_on": "3x3"}
_D = {"stem": "deep", "downsample": "average", "stride_on": "3x3"}
_SE = {"squeeze_excite": 1 / 16, "stride_on": "3x3"}
_RS = {"stem": "deep_strided", "downsample": "average", "squeeze_excite": 1 / 4, "stride_on": "3x3"}

FAMILIES: dict[str, dict[str, Architecture]] = {
    "ImageNet, residual (He et al. 2015)": {
        "ResNet18": Architecture(depths=(2, 2, 2, 2)),
        "ResNet34": Architecture(depths=(3, 4, 6, 3)),
        "ResNet50": _bottleneck(3, 4, 6, 3),
        "ResNet101": _bottleneck(3, 4, 23, 3),
        "ResNet152": _bottleneck(3, 8, 36, 3),
    },
    "ImageNet, plain (He et al. 2015)": {
        "Plain18": Architecture(depths=(2, 2, 2, 2), shortcut="none"),
        "Plain34": Architecture(depths=(3, 4, 6, 3), shortcut="none"),
    },
    "CIFAR, residual (He et al. 2015)": {f"ResNet{depth}": cifar(depth) for depth in (20, 32, 44, 56, 110, 1202)},
    "CIFAR, plain (He et al. 2015)": {
        f"Plain{depth}": cifar(depth, shortcut="none") for depth in (20, 32, 44, 56, 110)
    },
    "Pre-activation (He et al. 2016)": {
        "ResNet50V2": _bottleneck(3, 4, 6, 3, **_V2),
        "ResNet101V2": _bottleneck(3, 4, 23, 3, **_V2),
        "ResNet152V2": _bottleneck(3, 8, 36, 3, **_V2),
        "ResNet110V2": cifar(110, preactivation=True),
        "ResNet164V2": cifar(164, block="bottleneck", shortcut="projection", preactivation=True),
        "ResNet1001V2": cifar(1001, block="bottleneck", shortcut="projection", preactivation=True),
    },
    "ResNeXt (Xie et al. 2017)": {
        "ResNeXt50_32x4d": _bottleneck(3, 4, 6, 3, groups=32, group_width=4, **_V15),
        "ResNeXt101_32x8d": _bottleneck(3, 4, 23, 3, groups=32, group_width=8, **_V15),
        "ResNeXt101_64x4d": _bottleneck(3, 4, 23, 3, groups=64, group_width=4, **_V15),
    },
    "Wide (Zagoruyko and Komodakis 2016)": {
        "WideResNet50_2": _bottleneck(3, 4, 6, 3, group_width=128, **_V15),
        "WideResNet101_2": _bottleneck(3, 4, 23, 3, group_width=128, **_V15),
        "WideResNet28_10": Architecture(stem="cifar", depths=(4, 4, 4), widths=(160, 320, 640), preactivation=True),
    },
    "ResNet-D (He et al. 2019)": {
        "ResNet18D": Architecture(depths=(2, 2, 2, 2), **_D),
        "ResNet34D": Architecture(depths=(3, 4, 6, 3), **_D),
        "ResNet50D": _bottleneck(3, 4, 6, 3, **_D),
        "ResNet101D": _bottleneck(3, 4, 23, 3, **_D),
        "ResNet152D": _bottleneck(3, 8, 36, 3, **_D),
    },
    "Squeeze-and-excitation (Hu et al. 2018)": {
        "SEResNet50": _bottleneck(3, 4, 6, 3, **_SE),
        "SEResNet101": _bottleneck(3, 4, 23, 3, **_SE),
        "SEResNet152": _bottleneck(3, 8, 36, 3, **_SE),
    },
    "ResNet-RS (Bello et al. 2021)": {
        "ResNetRS50": _bottleneck(3, 4, 6, 3, **_RS),
        "ResNetRS101": _bottleneck(3, 4, 23, 3, **_RS),
        "ResNetRS152": _bottleneck(3, 8, 36, 3, **_RS),
    },
}

NAMED: dict[str, Architecture] = {name: row for family in FAMILIES.values() for name, row in family.items()}


def network_name(name: str) -> str:
    """A network's name as the table has it; case, `_` and `-` do not matter.

    Raises:
        ValueError: if there is none of this name; it gives the nearest ones.

    Example:
    >>> network_name("wide-resnet50_2")
    'WideResNet50_2'
    """
    by_key = {normalized(candidate): candidate for candidate in NAMED}
    if normalized(name) not in by_key:
        hint = nearest(name, NAMED) or " `list_models()` gives them all."
        raise ValueError(f"There is no network of this name. Received: {name!r}.{hint}")
    return by_key[normalized(name)]
