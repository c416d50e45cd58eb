"""PyTorch as a contender: a DataLoader with PIL, in a process of an interpreter that has both.

The other side of the pipe is this file as a script: it is told a number of batches a line, and answers images a second.
"""

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

BATCH = 64


def contender(python: str, folder: Path, workers: int, batches: int) -> tuple[str, Callable[[], float]]:
    """PyTorch's name with its version, and a function that reads so many batches and gives images a second.

    Args:
        python: an interpreter that has PyTorch and PIL.
        folder: where the JPEG files are.
        workers: processes of the DataLoader.
        batches: how many batches of a call count.
    """
    from benchmarks.torch_training import start

    version, ask = start([python, __file__, f"--folder={folder}", f"--workers={workers}"])
    return f"PyTorch {version}'s DataLoader with PIL, {workers} workers", lambda: float(ask(batches))


def main() -> None:
    """Answers until nobody asks."""
    import numpy as np
    import torch
    from PIL import Image

    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--workers", type=int, required=True)
    arguments = parser.parse_args()
    files = [path.read_bytes() for path in sorted(arguments.folder.rglob("*.jpg"))]
    vectors = np.float32([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    values, mean = np.float32([0.2175, 0.0188, 0.0045]), np.float32([123.675, 116.28, 103.53])

    class Pictures(torch.utils.data.Dataset):
        """The paper's stack, as it is usually written."""

        def __len__(self):
            return 10**6

        def __getitem__(self, index):
            random = np.random.default_rng(index)
            image = Image.open(io.BytesIO(files[index % len(files)])).convert("RGB")
            shorter = int(random.integers(256, 481))
            size = [shorter * side // min(image.size) for side in image.size]
            image = image.resize(size, Image.Resampling.BILINEAR)
            left, top = (int(random.integers(0, side - 223)) for side in size)
            image = image.crop((left, top, left + 224, top + 224))
            if random.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            shift = 255 * vectors @ (values * random.normal(0, 0.1, 3).astype("float32")) - mean
            return torch.from_numpy(np.asarray(image, "float32") + shift), 0

    loader = torch.utils.data.DataLoader(Pictures(), BATCH, num_workers=arguments.workers)
    print(torch.__version__, flush=True)
    for line in sys.stdin:
        batches, waiting = iter(loader), int(line)  # other contenders have the machine to themselves between the calls
        for _ in range(2):
            next(batches)
        start = time.perf_counter()
        for _ in range(waiting):
            next(batches)
        print(waiting * BATCH / (time.perf_counter() - start), flush=True)
        del batches


if __name__ == "__main__":
    main()
