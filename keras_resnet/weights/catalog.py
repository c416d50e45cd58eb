"""What is published, as data: where it is, how it is checked, what it takes for an image and what it is said to reach.

Addresses, hashes, sizes, accuracies and preprocessing are those of the sources named in each row (keras 3.15,
torchvision 0.29, timm 1.0 and their documentation). Published accuracies are claims of others, on ImageNet's validation
set; none was measured here. What this project has trained itself is in the package and was measured here: `Trained`.
"""

import dataclasses
from collections.abc import Iterator

from keras_resnet.architectures import NAMED, Architecture, nearest, normalized
from keras_resnet.preprocessing import NAMED as PREPROCESSING, Preprocessing

_CAFFE, _TORCH = PREPROCESSING["caffe"], PREPROCESSING["torch"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """Weights that somebody has published.

    Args:
        network: name in this package's table.
        tag: name of the weights, as the publisher has it.
        url: address of the file.
        hash: `algorithm:digits`; PyTorch's publishers give the first eight digits of a sha256. None: none is published.
        megabytes: size of the file as published, in units of 2^20 bytes; None: not published.
        layout: how the file names its variables, a key of `names.LAYOUTS`.
        preprocessing: what the weights take for an image.
        top1: published single-crop top-1 accuracy in percent, with this preprocessing; None: no claim.
        top5: the same for top-5.
        licence: of the weights.
        source: who publishes them.
        settings: architecture settings in which the weights differ from the network's row.
        classes: number of classes.
    """

    network: str
    tag: str
    url: str
    hash: str | None
    megabytes: float | None
    layout: str
    preprocessing: Preprocessing
    top1: float | None
    top5: float | None
    licence: str
    source: str
    settings: tuple[tuple[str, str], ...] = ()
    classes: int = 1000

    @property
    def architecture(self) -> Architecture:
        """The network that these weights are for."""
        return dataclasses.replace(NAMED[self.network], **dict(self.settings))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained(Published):
    """Weights that this project has trained; `url` is a path inside the package, and `top1` was measured here.

    Args:
        errors: how many of the test set's images they get wrong (`recipes/evaluate.py`).
        images: how many images the test set has.
        command: what trained them; the weights are those of its last step.
        seed: of the run; it was fixed before, and all runs are told of.
        commit: of this repository, that the command was run at.
        hours: of one CPU core that the training took.
        hardware: the kind of machine.
        date: of the last step.
    """

    errors: int
    images: int
    command: str
    seed: int
    commit: str
    hours: float
    hardware: str
    date: str


_V15 = (("stride_on", "3x3"),)


def _settings(network: str) -> tuple[tuple[str, str], ...]:
    """PyTorch's bottlenecks have the stride on the 3x3; the paper's rows do not."""
    row = NAMED[network]
    return _V15 if row.block == "bottleneck" and row.stride_on != "3x3" else ()


def _keras(network: str, depth: int, md5: str, megabytes: float, top1: float, top5: float) -> Published:
    return Published(
        network=network,
        tag="caffe",
        url="https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
        f"resnet{depth}_weights_tf_dim_ordering_tf_kernels.h5",
        hash=f"md5:{md5}",
        megabytes=megabytes,
        layout="keras_applications",
        preprocessing=_CAFFE,
        top1=top1,
        top5=top5,
        licence="MIT",
        source="keras.applications, converted from Kaiming He's Caffe networks",
    )


def _torchvision(
    network: str, tag: str, file: str, megabytes: float, top1: float, top5: float, resize: int
) -> Published:
    return Published(
        network=network,
        tag=tag,
        url=f"https://download.pytorch.org/models/{file}.pth",
        hash=f"sha256:{file.rpartition('-')[2]}",
        megabytes=megabytes,
        layout="torchvision",
        preprocessing=dataclasses.replace(_TORCH, resize=resize),
        top1=top1,
        top5=top5,
        licence="BSD-3-Clause",
        source="torchvision",
        settings=_settings(network),
    )


def _timm(
    network: str, tag: str, file: str, size: int, crop: float, layout: str = "timm", top1: float | None = None
) -> Published:
    """`crop` is timm's `crop_pct`: the crop's share of the resized image's shorter side."""
    return Published(
        network=network,
        tag=tag,
        url=f"https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-{file}.pth",
        hash=f"sha256:{file.rpartition('-')[2]}",
        megabytes=None,
        layout=layout,
        preprocessing=dataclasses.replace(_TORCH, image_size=size, resize=int(size / crop), interpolation="bicubic"),
        top1=top1,
        top5=None,
        licence="Apache-2.0",
        source="timm",
        settings=_settings(network),
    )


def _timm_v2(network: str, name: str) -> Published:
    """Published on a hub that gives no hash beside the address; safetensors, so nothing in the file is executed."""
    return Published(
        network=network,
        tag="a1h_in1k",
        url=f"https://huggingface.co/timm/{name}.a1h_in1k/resolve/main/model.safetensors",
        hash=None,
        megabytes=None,
        layout="timm_v2",
        preprocessing=Preprocessing(resize=235, interpolation="bicubic", mean=(127.5,) * 3, std=(127.5,) * 3),
        top1=None,
        top5=None,
        licence="Apache-2.0",
        source="timm",
    )


def _cifar10(network: str, sha256: str, errors: int, epochs: int, seed: int = 0, **run) -> Trained:
    """`run` has the other fields of `Trained`; `recipes/publish.py` prints the whole row."""
    return Trained(
        network=network,
        tag="cifar10",
        url=f"weights/cifar10/{network}.safetensors",
        hash=f"sha256:{sha256}",
        megabytes=None,
        layout="keras_resnet",
        preprocessing=PREPROCESSING["cifar10"],
        top1=round(100 - errors / 100, 2),
        top5=None,
        licence="Apache-2.0",
        source="keras_resnet",
        classes=10,
        errors=errors,
        images=10_000,
        command=f"python recipes/cifar10.py --recipe=cifar-fast --model={network} --epochs={epochs} --seed={seed}",
        seed=seed,
        hardware="2 cores of an AMD EPYC with avx512_bf16",
        **run,
    )


TRAINED: tuple[Trained, ...] = (
    _cifar10(
        "ResNet20",
        "051daf48f29b620c7be5b7d0a762fe5902b8f84dc9146a9bd4a6d786aa579408",
        errors=860,
        epochs=80,
        commit="0b6e079",
        hours=2.4,
        date="2026-11-20",
    ),
    _cifar10(
        "Plain20",
        "94aaf8dc0187d3e453799ab8bb4ea5998a17785c7c145817e4bdcd1335cd6296",
        errors=1018,
        epochs=80,
        commit="0b6e079",
        hours=2.3,
        date="2026-11-20",
    ),
)

CATALOG: tuple[Published, ...] = (
    *TRAINED,
    _keras("ResNet50", 50, "2cb95161c43110f7111970584f804107", 98, 74.9, 92.1),
    _keras("ResNet101", 101, "f1aeb4b969a6efcfb50fad2f0c20cfc5", 171, 76.4, 92.8),
    _keras("ResNet152", 152, "100835be76be38e30d865e96f2aaae62", 232, 76.6, 93.1),
    _torchvision("ResNet18", "IMAGENET1K_V1", "resnet18-f37072fd", 44.661, 69.758, 89.078, 256),
    _torchvision("ResNet34", "IMAGENET1K_V1", "resnet34-b627a593", 83.275, 73.314, 91.42, 256),
    _torchvision("ResNet50", "IMAGENET1K_V1", "resnet50-0676ba61", 97.781, 76.13, 92.862, 256),
    _torchvision("ResNet50", "IMAGENET1K_V2", "resnet50-11ad3fa6", 97.79, 80.858, 95.434, 232),
    _torchvision("ResNet101", "IMAGENET1K_V1", "resnet101-63fe2227", 170.511, 77.374, 93.546, 256),
    _torchvision("ResNet101", "IMAGENET1K_V2", "resnet101-cd907fc2", 170.53, 81.886, 95.78, 232),
    _torchvision("ResNet152", "IMAGENET1K_V1", "resnet152-394f9c45", 230.434, 78.312, 94.046, 256),
    _torchvision("ResNet152", "IMAGENET1K_V2", "resnet152-f82ba261", 230.474, 82.284, 96.002, 232),
    _torchvision("ResNeXt50_32x4d", "IMAGENET1K_V1", "resnext50_32x4d-7cdf4587", 95.789, 77.618, 93.698, 256),
    _torchvision("ResNeXt50_32x4d", "IMAGENET1K_V2", "resnext50_32x4d-1a0047aa", 95.833, 81.198, 95.34, 232),
    _torchvision("ResNeXt101_32x8d", "IMAGENET1K_V1", "resnext101_32x8d-8ba56ff5", 339.586, 79.312, 94.526, 256),
    _torchvision("ResNeXt101_32x8d", "IMAGENET1K_V2", "resnext101_32x8d-110c445d", 339.673, 82.834, 96.228, 232),
    _torchvision("ResNeXt101_64x4d", "IMAGENET1K_V1", "resnext101_64x4d-173b62eb", 319.318, 83.246, 96.454, 232),
    _torchvision("WideResNet50_2", "IMAGENET1K_V1", "wide_resnet50_2-95faca4d", 131.82, 78.468, 94.086, 256),
    _torchvision("WideResNet50_2", "IMAGENET1K_V2", "wide_resnet50_2-9ba9bcbe", 263.124, 81.602, 95.758, 232),
    _torchvision("WideResNet101_2", "IMAGENET1K_V1", "wide_resnet101_2-32ee1156", 242.896, 78.848, 94.284, 256),
    _torchvision("WideResNet101_2", "IMAGENET1K_V2", "wide_resnet101_2-d733dc28", 484.747, 82.51, 96.02, 232),
    _timm("ResNet18", "a1_in1k", "rsb-weights/resnet18_a1_0-d63eafa0", 224, 0.95, top1=71.50),
    _timm("ResNet34", "a1_in1k", "rsb-weights/resnet34_a1_0-46f8f793", 224, 0.95, top1=76.42),
    _timm("ResNet50", "a1_in1k", "rsb-weights/resnet50_a1_0-14fe96d1", 224, 0.95, top1=80.38),
    _timm("ResNet101", "a1_in1k", "rsb-weights/resnet101_a1_0-cdcb52a9", 224, 0.95, top1=81.49),
    _timm("ResNet152", "a1_in1k", "rsb-weights/resnet152_a1_0-2eee8a7a", 224, 0.95, top1=82.00),
    _timm("ResNeXt50_32x4d", "a1_in1k", "rsb-weights/resnext50_32x4d_a1_0-b5a91a1d", 224, 0.95),
    _timm("SEResNet50", "a1_in1k", "rsb-weights/seresnet50_a1_0-ffa00869", 224, 0.95),
    _timm("ResNet18D", "ra2_in1k", "weights/resnet18d_ra2-48a79e06", 224, 0.875, "timm_d"),
    _timm("ResNet34D", "ra2_in1k", "weights/resnet34d_ra2-f8dcfcaf", 224, 0.875, "timm_d"),
    _timm("ResNet50D", "a1_in1k", "rsb-weights/resnet50d_a1_0-e20cff14", 224, 0.95, "timm_d"),
    _timm("ResNet50D", "ra2_in1k", "weights/resnet50d_ra2-464e36ba", 224, 0.875, "timm_d"),
    _timm("ResNet101D", "ra2_in1k", "weights/resnet101d_ra2-2803ffab", 256, 0.95, "timm_d"),
    _timm("ResNet152D", "ra2_in1k", "weights/resnet152d_ra2-5cac0439", 256, 0.95, "timm_d"),
    _timm("ResNetRS50", "tf_in1k", "rs-weights/resnetrs50_ema-6b53758b", 224, 0.91, "timm_d"),
    _timm("ResNetRS101", "tf_in1k", "rs-weights/resnetrs101_i192_ema-1509bbf6", 288, 0.94, "timm_d"),
    _timm("ResNetRS152", "tf_in1k", "rs-weights/resnetrs152_i256_ema-a9aff7f9", 320, 1.0, "timm_d"),
    _timm_v2("ResNet50V2", "resnetv2_50"),
    _timm_v2("ResNet101V2", "resnetv2_101"),
)


def published(network: str = "*") -> Iterator[Published]:
    """The rows of the catalog for a network, or all of them."""
    return (row for row in CATALOG if network == "*" or normalized(row.network) == normalized(network))


def resolve(architecture: Architecture, tag: str) -> Published:
    """The row for an architecture and a tag; `"imagenet"` is the one with the best published accuracy.

    Raises:
        ValueError: if nothing is published under this tag for this architecture; it says what is, and for which
            settings.

    Example:
    >>> resolve(NAMED["ResNet50"], "imagenet").tag
    'caffe'
    """
    wanted = _answers(architecture)
    fitting = [row for row in CATALOG if _answers(row.architecture) == wanted]
    of_imagenet = [row for row in fitting if row.classes == 1000]
    if normalized(tag) == "imagenet" and of_imagenet:
        return max(of_imagenet, key=lambda row: row.top1 or 0)
    chosen = [row for row in fitting if normalized(row.tag) == normalized(tag)]
    if chosen:
        return chosen[0]
    tags = [row.tag for row in fitting]
    available = f"Published for it: {', '.join(tags)}." if tags else "Nothing is published for it here."
    raise ValueError(
        f"There are no weights {tag!r} for this architecture. {available}"
        + (_other_settings(wanted, tag) or nearest(tag, [*tags, "imagenet"] if of_imagenet else tags))
        + " A file is given by its path."
    )


def _answers(architecture: Architecture) -> Architecture:
    """The architecture less the settings that its answers do not depend on."""
    irrelevant = {"drop_path": 0.0, "zero_init_residual": False}
    if architecture.block == "basic":
        irrelevant["stride_on"] = "1x1"
    if architecture.shortcut != "identity":
        irrelevant["zero_channels"] = "after"
    return dataclasses.replace(architecture, **irrelevant)


def _other_settings(wanted: Architecture, tag: str) -> str:
    """Which single setting would have to be another one for this tag, if that is all that differs."""
    for row in CATALOG:
        if normalized(row.tag) == normalized(tag):
            theirs = dataclasses.asdict(_answers(row.architecture))
            differing = {name: value for name, value in theirs.items() if value != getattr(wanted, name)}
            if len(differing) == 1:
                ((name, value),) = differing.items()
                return f" {tag!r} is for {name}={value!r}. Received: {name}={getattr(wanted, name)!r}."
    return ""
