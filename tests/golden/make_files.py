"""Writes the small checkpoints in `files/`, each as PyTorch or safetensors really writes it.

`python tests/golden/make_files.py` makes them again; it needs torch and safetensors. The tests need neither: they make
the same values from the same seed through `values`.
"""

import argparse
from pathlib import Path

import numpy as np

FILES = Path(__file__).with_name("files")
SEED = 20151210


def values() -> dict[str, np.ndarray]:
    """A tiny convolution and its batch norm under PyTorch's names. RandomState's numbers are the same for ever."""
    random = np.random.RandomState(SEED)
    arrays = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in (
            ("conv1.weight", (4, 3, 3, 3)),
            ("bn1.weight", (4,)),
            ("bn1.bias", (4,)),
            ("bn1.running_mean", (4,)),
            ("bn1.running_var", (4,)),
        )
    }
    return arrays | {"bn1.num_batches_tracked": np.array(64000)}


def integers(kind: str) -> np.ndarray:
    """Every fifth or so value of an integer type, its ends included."""
    limits = np.iinfo(kind)
    return np.array([limits.min, 0, 1, 5, limits.max], kind)


def main() -> None:
    import torch
    from safetensors.torch import save_file

    state = {name: torch.from_numpy(array) for name, array in values().items()}
    weight = state["conv1.weight"]

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(3, 4, 3, bias=False)
            self.bn1 = torch.nn.BatchNorm2d(4)

    network = Network()
    network.load_state_dict(state)
    parallel = torch.nn.DataParallel(network)
    averaged = torch.optim.swa_utils.AveragedModel(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [32000, 48000])
    network.conv1.weight.grad = torch.ones_like(network.conv1.weight)
    network.train()
    optimizer.step()
    network.load_state_dict(state)

    contents = {
        "state_dict": network.state_dict(),
        "parameters": network.state_dict(keep_vars=True),
        "averaged": averaged.state_dict(),
        "compiled": {f"_orig_mod.{name}": tensor for name, tensor in parallel.state_dict().items()},
        "training": {
            "epoch": 90,
            "arch": "resnet20",
            "best_prec1": np.float64(91.73),
            "args": argparse.Namespace(lr=0.1, betas=(0.9, 0.999)),
            "state_dict": parallel.state_dict(),
            "model_ema": {"conv1.weight": weight + 1},
            "optimizer": optimizer.state_dict(),
            "scheduler": schedule.state_dict(),
        },
        "ema_only": {"epoch": 90, "model": {}, "model_ema": network.state_dict()},
        "types": {
            "float64": weight.double(),
            "float16": weight.half(),
            "bfloat16": weight.bfloat16(),
            **{kind: torch.from_numpy(integers(kind)) for kind in ("int64", "int32", "int16", "int8", "uint8")},
            "bool": weight > 0,
        },
        "views": {
            "transposed": weight.permute(2, 3, 1, 0),
            "sliced": weight[1:, :, ::2, 1],
            "whole": weight,
            "tied": weight,
            "last": weight.view(-1)[-1],
            "expanded": weight[0, 0, 0, 0].expand(2, 3),
            "empty": torch.zeros(0, 3),
        },
        "no_tensors": {"epoch": 90, "net": network.state_dict()},
    }
    for name, content in contents.items():
        torch.save(content, FILES / f"{name}.pth")
        torch.save(content, FILES / f"{name}.legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(network.state_dict(), FILES / "protocol4.pth", pickle_protocol=4)
    torch.save(network.bn1, FILES / "whole_model.pth")  # the old format would add the source code of PyTorch's class
    save_file(contents["types"] | {"scalar": torch.tensor(1.5)}, FILES / "types.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
