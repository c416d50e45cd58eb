"""What was exported, how large and how fast each file is, and what accuracy it keeps: as JSON and as Markdown."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from keras_resnet.cards import Card
from keras_resnet.data import pipeline
from keras_resnet.data.storage import Source
from keras_resnet.export.compare import Classifier
from keras_resnet.export.tflite import device_images

THREADS = (1, 2)
_COLUMNS = {
    "file": ("file", "{}"),
    "bytes": ("MB", "{:.2f}"),
    "agreement": ("same best class", "{:.2%}"),
    "difference": ("largest difference", "{:.2g}"),
    "accuracy": ("accuracy", "{:.2%}"),
    **{
        f"{percentile}_{threads}": (f"{percentile} ms, {threads} thread{'s' * (threads > 1)}", "{:.2f}")
        for threads in THREADS
        for percentile in ("p50", "p99")
    },
}


def latencies(open_file: Callable[[int], Classifier], card: Card, runs: int = 100) -> dict[str, float]:
    """How long one image takes.

    Args:
        open_file: from a number of threads to a classifier.
        card: the network's card.
        runs: how many times; a tenth of it more to warm up.

    Returns:
        Milliseconds: `p50_1`, `p99_1` on one thread, `p50_2`, `p99_2` on two.
    """
    image, found = np.zeros((1, *[card.preprocessing.image_size] * 2, 3), "uint8"), {}
    for threads in THREADS:
        run, milliseconds = open_file(threads), []
        for _ in range(runs + runs // 10):
            start = time.perf_counter()
            run(image)
            milliseconds.append(1e3 * (time.perf_counter() - start))
        for percentile in (50, 99):
            found[f"p{percentile}_{threads}"] = float(np.percentile(milliseconds[-runs:], percentile))
    return found


def accuracies(classifiers: dict[str, Classifier], source: Source, card: Card) -> dict[str, float]:
    """The share of a whole set's images that each classifier names rightly, all of them seeing the same pixels.

    Args:
        classifiers: functions of uint8 images to probabilities, by name.
        source: images and labels.
        card: the network's card.

    Returns:
        A number from 0 to 1 by the same names.
    """
    right = dict.fromkeys(classifiers, 0.0)
    batches = pipeline.evaluation(source, device_images(card), batch_size=min(64, source.num_examples))
    with tqdm(total=source.num_examples, unit="image", desc="accuracy") as bar:
        for images, labels, weights in batches.as_numpy_iterator():
            images, labels = images[weights > 0], labels[weights > 0]
            for name, run in classifiers.items():
                right[name] += (run(images).argmax(1) == labels).sum()
            bar.update(len(images))
    return {name: float(count / source.num_examples) for name, count in right.items()}


def markdown(rows: list[dict]) -> str:
    """The rows as a table; columns that no row has are left out."""
    columns = {key: column for key, column in _COLUMNS.items() if any(row.get(key) is not None for row in rows)}
    lines = [[title for title, _ in columns.values()], ["---", *["--:"] * (len(columns) - 1)]]
    for row in rows:
        row = row | {"bytes": row["bytes"] / 1e6 if row.get("bytes") is not None else None}
        lines.append([f.format(row[key]) if row.get(key) is not None else "" for key, (_, f) in columns.items()])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_report(rows: list[dict], about: dict, folder: Path) -> None:
    """Writes `report.json` and `report.md`.

    Args:
        rows: one for each file: what `_COLUMNS` names, as far as it is known.
        about: what else belongs to the numbers: the command, the machine, the data.
        folder: where they go.
    """
    (folder / "report.json").write_text(json.dumps({"about": about, "files": rows}, indent=1) + "\n", "utf-8")
    facts = "\n".join(f"- {name}: {value}" for name, value in about.items())
    (folder / "report.md").write_text(f"{markdown(rows)}\n\n{facts}\n", "utf-8")
