"""Pictures by matplotlib, without its global state; and rows of numbers beside them."""

import csv
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

# Okabe and Ito's colours, which colour-blind people can tell apart, the palest left out.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def plot_responses(networks: Mapping[str, Mapping[str, float]], path: str | os.PathLike) -> None:
    """Draws the layers' responses in their order and, below, by their size (Figure 7).

    Args:
        networks: for each network its name and what `layer_responses` gave.
        path: the PNG file to write.

    Example:
    >>> plot_responses({"ResNet-20": {"conv1": 1.0, "conv2": 0.5, "conv3": 0.7}}, "responses.png")
    """
    figure = new_figure(7.5, 6)
    for row, (order, label) in enumerate(((list, "layer, in order"), (_descending, "layer, by response")), 1):
        axes = figure.add_subplot(2, 1, row, ylabel="standard deviation", xlabel=label)
        for color, (name, responses) in zip(itertools.cycle(COLORS), networks.items()):
            values = order(responses.values())
            axes.plot(
                range(1, len(values) + 1), values, color=color, label=name, linewidth=1.2, marker="o", markersize=3
            )
        axes.set_xlim(left=0)
        axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for the names
        axes.xaxis.get_major_locator().set_params(integer=True)
        tidy(axes)
    write_picture(figure, path)


def _descending(values: Iterable[float]) -> list[float]:
    return sorted(values, reverse=True)


def plot_explanation(image: np.ndarray, activation: np.ndarray, title: str, path: str | os.PathLike) -> None:
    """Draws an image, and beside it the image with a class activation map over it.

    Args:
        image: uint8 `(height, width, 3)`: what the network saw.
        activation: what `class_activation_map` gave for it, `(rows, columns)`.
        title: what stands above.
        path: the PNG file to write.

    Example:
    >>> plot_explanation(np.zeros((32, 32, 3), "uint8"), np.eye(8), "frog, 98 %", "frog.png")
    """
    figure = new_figure(7, 3.9)
    positive = np.maximum(activation, 0)
    strength = positive / max(positive.max(), 1e-12)
    edges = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
    for column in (1, 2):
        axes = figure.add_subplot(1, 2, column)
        axes.imshow(image, interpolation="nearest")
        if column == 2:
            axes.imshow(strength, cmap="turbo", alpha=0.25 + 0.4 * strength, extent=edges, interpolation="bilinear")
        axes.set_axis_off()
    figure.suptitle(title)
    write_picture(figure, path)


def new_figure(width: float, height: float):
    """A matplotlib `Figure` of so many inches; matplotlib is imported here, and its global state left alone.

    Example:
    >>> new_figure(4, 3).get_size_inches().tolist()
    [4.0, 3.0]
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Pictures are drawn by matplotlib: pip install matplotlib.") from error
    return Figure(figsize=(width, height), layout="constrained")


def tidy(axes) -> None:
    """A light grid instead of a box.

    Example:
    >>> axes = new_figure(4, 3).add_subplot()
    >>> lines = axes.plot([3, 2, 1], label="error")
    >>> tidy(axes)
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="upper right")


def write_picture(figure, path: str | os.PathLike) -> None:
    """Writes a figure as PNG, as large as its content; the folder is made if it is not there.

    Example:
    >>> write_picture(new_figure(4, 3), "pictures/empty.png")
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200, format="png", bbox_inches="tight")


def write_rows(path: str | os.PathLike, columns: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Writes a CSV file; its folder is made if it is not there.

    Example:
    >>> write_rows("new/rows.csv", ["network", "parameters"], [["ResNet20", 269722]])
    >>> Path("new/rows.csv").read_text().split()
    ['network,parameters', 'ResNet20,269722']
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
