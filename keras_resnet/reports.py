"""What came of an evaluation: its numbers, as rows of CSV files, and the confusion matrix as a picture."""

import csv
import dataclasses
import datetime
import math
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import analysis
from keras_resnet._version import __version__
from keras_resnet.classifiers import Classifier, fingerprint
from keras_resnet.data.sources import Source

PER_CLASS = ("class", "images", "correct", "accuracy", "low", "high")
CONFUSED = ("class", "taken_for", "images", "share")


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What came of an evaluation.

    Attributes:
        class_names: a name for each class.
        confusion: `(classes, classes)`: how many images of the row's class were taken for the column's.
        in_top5: how many images have their class among the five most probable ones.
        loss: mean cross-entropy; a probability of 0 counts as the least number of float32.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray
    in_top5: int
    loss: float

    @property
    def count(self) -> int:
        """How many images were counted."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """How many were right."""
        return int(np.trace(self.confusion))

    def summary(self) -> dict[str, Any]:
        """The numbers, by the names that they have in files."""
        low, high = interval(self.correct, self.count)
        return {
            "images": self.count,
            "errors": self.count - self.correct,
            "top1": self.correct / self.count,
            "top1_low": low,
            "top1_high": high,
            "top5": self.in_top5 / self.count,
            "loss": self.loss,
        }


def interval(correct: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval of a proportion; 95 % with the default `z`.

    Example:
    >>> [round(bound, 4) for bound in interval(9173, 10_000)]
    [0.9117, 0.9225]
    """
    if not count:
        return 0.0, 1.0
    share, weight = correct / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / count / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def per_class(result: Result) -> list[tuple]:
    """Rows of `PER_CLASS`: of each class its images, how many were right, the share with its 95 % interval.

    Example:
    >>> rows = per_class(Result(("cat", "dog"), np.array([[3, 1], [0, 4]]), 8, 0.5))
    >>> [row[:4] for row in rows]
    [('cat', 4, 3, 0.75), ('dog', 4, 4, 1.0)]
    """
    totals, right = result.confusion.sum(axis=1).tolist(), np.diag(result.confusion).tolist()
    return [
        (name, count, correct, correct / count if count else math.nan, *interval(correct, count))
        for name, count, correct in zip(result.class_names, totals, right)
    ]


def confused_pairs(result: Result, most: int = 50) -> list[tuple]:
    """Rows of `CONFUSED`: a class, what it was wrongly taken for, how often, the share; the most frequent first.

    Example:
    >>> pairs = confused_pairs(Result(("cat", "dog"), np.array([[3, 1], [0, 4]]), 8, 0.5))
    >>> [pair[:2] for pair in pairs]
    [('cat', 'dog')]
    """
    wrong = result.confusion - np.diag(np.diag(result.confusion))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    names, totals = result.class_names, result.confusion.sum(axis=1)
    pairs = zip(*np.unravel_index(order, wrong.shape))
    return [(names[i], names[j], wrong[i, j], wrong[i, j] / totals[i]) for i, j in pairs if wrong[i, j]]


def plot_confusion(result: Result, path: str | os.PathLike) -> None:
    """Draws the confusion matrix, each row in percent of its class; names and numbers where there is room for them.

    Example:
    >>> plot_confusion(Result(("cat", "dog"), np.array([[3, 1], [0, 4]]), 8, 0.5), "confusion.png")
    """
    shares = 100 * result.confusion / np.maximum(result.confusion.sum(axis=1, keepdims=True), 1)
    classes, few = len(shares), len(shares) <= 25
    figure = analysis.new_figure(*([2.4 + 0.45 * classes] * 2 if few else [7, 7]))
    axes = figure.add_subplot()
    # By the square root, so that what is confused in a few percent of cases is seen too.
    image = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=10, interpolation="nearest")
    axes.set(xlabel="taken for", ylabel="class")
    axes.set_title(f"{100 * result.correct / result.count:.2f} % of {result.count:,} images are right")
    if few:
        axes.set_xticks(range(classes), result.class_names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(classes), result.class_names)
        for (row, column), share in np.ndenumerate(shares):
            if result.confusion[row, column]:
                color = "white" if share > 40 else "black"
                axes.text(column, row, f"{share:.1f}", ha="center", va="center", color=color, fontsize=8)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, label="% of the class", ticks=np.sqrt([0, 1, 5, 20, 50, 100]))
    bar.ax.set_yticklabels(["0", "1", "5", "20", "50", "100"])
    analysis.write_picture(figure, path)


def write_report(result: Result, folder: str | os.PathLike) -> None:
    """Writes `per_class.csv`, `confused.csv` and `confusion.png`.

    Args:
        result: what came of an evaluation.
        folder: where; it is made if it is not there.

    Example:
    >>> write_report(Result(("cat", "dog"), np.array([[3, 1], [0, 4]]), 8, 0.5), "report")
    >>> Path("report/confused.csv").read_text().split()
    ['class,taken_for,images,share', 'cat,dog,1,0.25']
    """
    folder = Path(folder)
    analysis.write_rows(folder / "per_class.csv", PER_CLASS, per_class(result))
    analysis.write_rows(folder / "confused.csv", CONFUSED, confused_pairs(result))
    plot_confusion(result, folder / "confusion.png")


def record(classifier: Classifier, source: Source, result: Result, **more: Any) -> dict[str, Any]:
    """A row for a table of results: what was measured, on what, with which versions, and what came of it.

    Args:
        classifier: the network.
        source: the set.
        result: what came of it.
        **more: what else the row says, such as the command.

    Returns:
        Names of columns, and values.

    Example:
    >>> append_row("results.csv", record(classifier, source, result, model="ResNet50"))  # doctest: +SKIP
    """
    versions = {"keras_resnet": __version__, "python": platform.python_version()}
    versions |= {package: metadata.version(package) for package in ("tensorflow", "keras", "numpy")}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **more,
        "dataset": source.name,
        "split": source.split,
        **result.summary(),
        "weights_sha256": fingerprint(classifier),
        "versions": " ".join(f"{name}={version}" for name, version in versions.items()),
    }


def append_row(path: str | os.PathLike, row: Mapping[str, Any]) -> None:
    """Appends a row to a CSV file, which it begins if it is not there.

    Example:
    >>> append_row("results.csv", {"model": "ResNet20", "top1": 0.9173})
    >>> append_row("results.csv", {"model": "ResNet44", "top1": 0.9311})
    >>> Path("results.csv").read_text().split()
    ['model,top1', 'ResNet20,0.9173', 'ResNet44,0.9311']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", newline="", encoding="utf-8") as file:
        file.seek(0)
        header = next(csv.reader(file), None)
        if header not in (None, list(row)):
            raise ValueError(f"This file has other columns: take another one. Received: {str(path)!r} with {header}.")
        writer = csv.DictWriter(file, list(row))
        if header is None:
            writer.writeheader()
        writer.writerow(row)
