"""Records what PyTorch's networks answer: `tox -e peers` writes `logits.json`, which the default suite reads.

Each network of torchvision or timm is given the weights and images of `recipe.py`; its logits are recorded, and the
number of its trainable parameters with 1000 classes. A narrow network of each family is saved whole, in turn by each of
PyTorch's and safetensors' savers: `narrow/` has the files, `narrow.json` the logits.
"""

import functools
import json
from pathlib import Path

import torch
from golden.recipe import CLASSES, images, variable
from safetensors.torch import save_file

# torchvision's wheels fit one version of torch each. Nothing here calls its operators, so names without code will do.
_library = torch.library.Library("torchvision", "DEF")
for _operator in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
    _library.define(f"{_operator}(Tensor x) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402
from timm.layers import BatchNormAct2d, get_attn  # noqa: E402
from timm.models.resnet import BasicBlock, Bottleneck, ResNet  # noqa: E402
from timm.models.resnetv2 import ResNetV2, create_conv2d  # noqa: E402

_TORCHVISION = {
    "ResNet18": "resnet18",
    "ResNet34": "resnet34",
    "ResNet50": "resnet50",
    "ResNet101": "resnet101",
    "ResNet152": "resnet152",
    "ResNeXt50_32x4d": "resnext50_32x4d",
    "ResNeXt101_32x8d": "resnext101_32x8d",
    "ResNeXt101_64x4d": "resnext101_64x4d",
    "WideResNet50_2": "wide_resnet50_2",
    "WideResNet101_2": "wide_resnet101_2",
}
_TIMM = {
    "ResNet18D": "resnet18d",
    "ResNet34D": "resnet34d",
    "ResNet50D": "resnet50d",
    "ResNet101D": "resnet101d",
    "ResNet152D": "resnet152d",
    "ResNet50V2": "resnetv2_50",
    "ResNet101V2": "resnetv2_101",
    "ResNet152V2": "resnetv2_152",
    "SEResNet50": "seresnet50",
    "SEResNet101": "seresnet101",
    "SEResNet152": "seresnet152",
    "ResNetRS50": "resnetrs50",
    "ResNetRS101": "resnetrs101",
    "ResNetRS152": "resnetrs152",
}
SOURCES = {
    f"torchvision {torchvision.__version__.partition('+')[0]}": (_TORCHVISION, torchvision.models.get_model),
    f"timm {timm.__version__}": (_TIMM, timm.create_model),
}


_NARROW = {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16), "num_classes": CLASSES}
_DEEP = {"stem_type": "deep", "stem_width": 32, "avg_down": True}
_SE = {"attn_layer": functools.partial(get_attn("se"), rd_ratio=1 / 4)}
NARROW = {
    "basic": lambda: ResNet(BasicBlock, **_NARROW),
    "bottleneck": lambda: ResNet(Bottleneck, **_NARROW),
    "grouped": lambda: ResNet(Bottleneck, cardinality=4, base_width=16, **_NARROW),
    "deep": lambda: ResNet(BasicBlock, **_DEEP, **_NARROW),
    "se": lambda: ResNet(Bottleneck, block_args=_SE, **_NARROW),
    "rs": lambda: ResNet(Bottleneck, replace_stem_pool=True, block_args=_SE, **_DEEP, **_NARROW),
    "v2": lambda: ResNetV2(
        norm_layer=BatchNormAct2d,
        conv_layer=create_conv2d,
        **_NARROW | {"channels": (32, 32, 64, 64)},
    ),
}


def _save_legacy(state, path):
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 90},
        path,
        _use_new_zipfile_serialization=False,
    )


SAVERS = {".pth": torch.save, ".tar": _save_legacy, ".safetensors": save_file}


def save_narrow(folder: Path):
    folder.mkdir(exist_ok=True)
    golden = {}
    for i, (name, create) in enumerate(NARROW.items()):
        model = create()
        golden[name] = {"logits": logits(model)}
        ending = list(SAVERS)[i % len(SAVERS)]
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        SAVERS[ending](state, folder / f"{name}{ending}")
        golden[name]["file"] = f"{name}{ending}"
    write(folder.with_suffix(".json"), golden)


def write(path: Path, golden: dict):
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in golden.items())
    path.write_text("{\n" + lines + "\n}\n")


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@torch.no_grad()
def logits(model: torch.nn.Module) -> list[list[float]]:
    state = model.state_dict()
    floating = {name: value for name, value in state.items() if value.is_floating_point()}
    model.load_state_dict(
        state | {name: torch.from_numpy(variable(name, tuple(value.shape))) for name, value in floating.items()}
    )
    answer = model.eval()(torch.from_numpy(images()).permute(0, 3, 1, 2))
    return [[float(f"{value:.7g}") for value in row] for row in answer.tolist()]


def main():
    save_narrow(Path(__file__).with_name("narrow"))
    golden = {}
    for source, (networks, create) in SOURCES.items():
        for ours, theirs in networks.items():
            with torch.device("meta"):
                count = parameters(create(theirs))
            golden[ours] = {"source": f"{source}, {theirs}", "parameters": count}
            golden[ours]["logits"] = logits(create(theirs, num_classes=CLASSES))
            print(ours, count, golden[ours]["logits"][0][:3], flush=True)
    write(Path(__file__).with_name("logits.json"), golden)


if __name__ == "__main__":
    main()
