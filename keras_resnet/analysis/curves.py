"""How trainings went: the logs of one or several, drawn as the paper draws them."""

import csv
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_resnet.analysis.pictures import COLORS, new_figure, tidy, write_picture

_THIN, _BOLD = 0.8, 1.9
_ITERATIONS = ("iterations", "step")


class Curve(NamedTuple):
    """How a training went: error in percent at some iterations or epochs; NaN where it was not measured."""

    unit: str
    at: np.ndarray
    training: np.ndarray
    test: np.ndarray


def read_curve(log: str | os.PathLike) -> Curve:
    """Reads the log that Keras's `CSVLogger` wrote of a training with the metric "accuracy".

    Args:
        log: the CSV file. Where it has a column `iterations` or `step`, errors are told by iterations, else by epochs.

    Returns:
        The `Curve`: error = 100 * (1 - accuracy).

    Example:
    >>> np.savetxt("log.csv", ["epoch,accuracy,val_accuracy", "0,0.5,0.25", "1,0.75,0.5"], "%s")
    >>> read_curve("log.csv").test
    array([75., 50.])
    """
    with Path(log).open(newline="") as file:
        rows = list(csv.DictReader(file))
    missing = {"epoch", "accuracy"} - set(rows[0] if rows else ())
    if missing:
        raise ValueError(f"A log has rows, with the columns epoch and accuracy. Received: {os.fspath(log)!r}.")

    def column(name: str) -> np.ndarray:
        return np.array([_number(row.get(name)) for row in rows])

    unit = next((name for name in _ITERATIONS if name in rows[0]), None)
    at = column("epoch") + 1 if unit is None else column(unit)
    errors = (100 * (1 - column(name)) for name in ("accuracy", "val_accuracy"))
    return Curve("epochs" if unit is None else "iterations", at, *errors)


def plot_curves(
    runs: Mapping[str, str | os.PathLike],
    path: str | os.PathLike,
    *,
    title: str | None = None,
    top: float | None = None,
) -> None:
    """Draws the errors of several trainings into one picture: thin lines training, bold lines test (Figures 4 and 6).

    Args:
        runs: for each run its name and its log, as `read_curve` takes it.
        path: the PNG file to write.
        title: what stands above.
        top: the greatest error to show; None: the greatest after the first tenth of the training.

    Example:
    >>> np.savetxt("log.csv", ["epoch,accuracy,val_accuracy", "0,0.5,0.25", "1,0.75,0.5"], "%s")
    >>> plot_curves({"ResNet-20": "log.csv"}, "curves.png")
    """
    plot_panels({title or "": runs}, path, top=top)


def plot_panels(
    panels: Mapping[str, Mapping[str, str | os.PathLike]], path: str | os.PathLike, *, top: float | None = None
) -> None:
    """Draws curves side by side on one scale: plain networks against residual ones, say.

    Args:
        panels: for each panel its title and its runs, as `plot_curves` takes them.
        path: the PNG file to write.
        top: as in `plot_curves`.

    Example:
    >>> np.savetxt("log.csv", ["epoch,accuracy,val_accuracy", "0,0.5,0.25", "1,0.75,0.5"], "%s")
    >>> plot_panels({"plain": {"18": "log.csv"}, "residual": {"18": "log.csv"}}, "panels.png")
    """
    curves = {title: {name: read_curve(log) for name, log in runs.items()} for title, runs in panels.items()}
    every = [curve for runs in curves.values() for curve in runs.values()]
    if not every:
        raise ValueError("There is nothing to draw: give the log of one run at least. Received: none.")
    units = {curve.unit for curve in every}
    if len(units) > 1:
        raise ValueError("Some of these logs count iterations, others only epochs: draw them apart. Received: both.")
    figure = new_figure(1.2 + 4.6 * len(curves), 4.2)
    for i, (title, runs) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(1, len(curves), i, sharey=figure.axes[0] if figure.axes else None)
        _draw_curves(axes, runs)
        axes.set(title=title, xlabel=units.copy().pop())
    figure.axes[0].set(ylabel="error (%)", ylim=(0, top or _top(every)))
    write_picture(figure, path)


def _draw_curves(axes, runs: Mapping[str, Curve]) -> None:
    for color, (name, curve) in zip(itertools.cycle(COLORS), runs.items()):
        for errors, width in ((curve.training, _THIN), (curve.test, _BOLD)):
            there = ~np.isnan(errors)
            marker = "o" if there.sum() == 1 else None  # a line of one point is not to be seen
            axes.plot(curve.at[there], errors[there], color=color, linewidth=width, marker=marker, markersize=2 * width)
        last = "".join(f": {error:.2f} %" for error in curve.test[~np.isnan(curve.test)][-1:])
        axes.plot([], [], color=color, linewidth=_BOLD, label=name + last)
    for label, width in (("training error", _THIN), ("test error", _BOLD)):
        axes.plot([], [], color="0.4", linewidth=width, label=label)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda number, _: f"{number / 1000:g}k" if number >= 1000 else f"{number:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)
    tidy(axes)


def _top(curves: Sequence[Curve]) -> float:
    """The greatest error after the first tenth, which is all descent; rounded up to fives."""
    later = [errors[curve.at > curve.at[-1] / 10] for curve in curves for errors in (curve.training, curve.test)]
    return min(100, 5 * math.ceil(np.nanmax(np.concatenate(later)) / 5 + 0.2))


def _number(text: str | None) -> float:
    """What a log has in a place; Keras writes NA where something was not measured."""
    return float(text) if text and text != "NA" else math.nan
