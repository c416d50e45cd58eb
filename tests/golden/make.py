"""Records what PyTorch's networks answer: `tox -e peers` writes `logits.json`, which the default suite reads.

Each network of torchvision or timm is given the weights and images of `recipe.py`; its logits are recorded, and the
number of its trainable parameters with 1000 classes.
"""

import json
from pathlib import Path

import torch
from recipe import CLASSES, images, variable

# torchvision's wheels fit one version of torch each. Nothing here calls its operators, so names without code will do.
_library = torch.library.Library("torchvision", "DEF")
for _operator in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
    _library.define(f"{_operator}(Tensor x) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402

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
    f"torchvision {torchvision.__version__}": (_TORCHVISION, torchvision.models.get_model),
    f"timm {timm.__version__}": (_TIMM, timm.create_model),
}


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
    golden = {}
    for source, (networks, create) in SOURCES.items():
        for ours, theirs in networks.items():
            with torch.device("meta"):
                count = parameters(create(theirs))
            golden[ours] = {"source": f"{source}, {theirs}", "parameters": count}
            golden[ours]["logits"] = logits(create(theirs, num_classes=CLASSES))
            print(ours, count, golden[ours]["logits"][0][:3], flush=True)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in golden.items())
    Path(__file__).with_name("logits.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
