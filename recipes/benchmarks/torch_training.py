"""PyTorch as a contender: ResNet-50's training steps, channels last, in a process of an interpreter that has it.

The other side of the pipe is this file as a script: it is told a number of steps a line, and answers images a second.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable


def contender(python: str, dtype: str, batch: int, steps: int) -> tuple[str, Callable[[], float]]:
    """PyTorch's name with its version, and a function that makes so many steps and gives images a second.

    Args:
        python: an interpreter that has PyTorch.
        dtype: `"float32"` or `"mixed_bfloat16"`, which is PyTorch's autocast.
        batch: images of a step.
        steps: steps of a call.
    """
    version, ask = start([python, __file__, f"--dtype={dtype}", f"--batch={batch}"])
    return f"PyTorch {version}, eager, channels last", lambda: float(ask(steps))


def start(command: list[str]) -> tuple[str, Callable[[object], str]]:
    """Starts a process that answers a line with a line; its first line is PyTorch's version."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        version = process.stdout.readline().partition("+")[0].strip()
    except OSError:
        version = ""
    if not version:
        raise SystemExit(f"PyTorch does not run there. Received: --peers_python={command[0]}")

    def ask(question: object) -> str:
        process.stdin.write(f"{question}\n")
        answer = process.stdout.readline()
        if not answer:
            raise SystemExit(f"PyTorch's process ended, with exit status {process.wait()}.")
        return answer

    return version, ask


def main() -> None:
    """Answers until nobody asks."""
    import torch

    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", choices=["float32", "mixed_bfloat16"], required=True)
    parser.add_argument("--batch", type=int, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randn(arguments.batch, 3, 224, 224).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (arguments.batch,))
    network = resnet50().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)
    print(torch.__version__, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=arguments.dtype == "mixed_bfloat16"):
                loss = torch.nn.functional.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            loss.item()
        print(arguments.batch * int(line) / (time.perf_counter() - start), flush=True)


def resnet50():
    """The network that `keras_resnet.ResNet50` is, with torch alone: torchvision has no CPU build for every torch."""
    import torch
    from torch import nn

    def conv_bn(inputs, outputs, size, stride=1):
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)
        )

    class Bottleneck(nn.Module):
        def __init__(self, inputs, width, stride):
            super().__init__()
            self.residual = nn.Sequential(
                conv_bn(inputs, width, 1, stride),
                nn.ReLU(inplace=True),
                conv_bn(width, width, 3),
                nn.ReLU(inplace=True),
                conv_bn(width, 4 * width, 1),
            )
            changes = stride > 1 or inputs != 4 * width
            self.shortcut = conv_bn(inputs, 4 * width, 1, stride) if changes else nn.Identity()

        def forward(self, x):
            return torch.relu_(self.shortcut(x) + self.residual(x))

    layers, inputs = [conv_bn(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)], 64
    for depth, width in zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True):
        for block in range(depth):
            layers.append(Bottleneck(inputs, width, 2 if block == 0 and width > 64 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


if __name__ == "__main__":
    main()
