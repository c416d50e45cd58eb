"""PyTorch as a contender: ResNet-50, eager, float32, channels last, in a process of an interpreter that has it.

The other side of the pipe is this file as a script: it is told a number of runs a line and answers the seconds of each.
"""

import json
import sys
import time
from collections.abc import Callable


def contender(python: str, batch: int) -> tuple[str, Callable[[int], list[float]]]:
    """PyTorch's name with its version, and a function from a number of runs to the seconds that each takes.

    Args:
        python: an interpreter that has PyTorch.
        batch: images of a run.
    """
    from benchmarks.torch_training import start

    version, ask = start([python, __file__, str(batch)])
    return f"PyTorch {version}, eager, channels last", lambda runs: json.loads(ask(runs))


def main() -> None:
    """Answers until nobody asks."""
    import torch
    from torch_training import resnet50

    torch.manual_seed(0)
    images = torch.randn(int(sys.argv[1]), 3, 224, 224).to(memory_format=torch.channels_last)
    network = resnet50().to(memory_format=torch.channels_last).eval()
    print(torch.__version__, flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            with torch.inference_mode():
                network(images).numpy()
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
