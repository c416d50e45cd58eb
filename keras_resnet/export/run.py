"""`export`: from a trained network to a folder of files, each compared with it, and a report."""

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_resnet.cards import Card
from keras_resnet.classifiers import run_tflite
from keras_resnet.data.augmentation import apply
from keras_resnet.data.storage import Source
from keras_resnet.export.compare import classifier, examples
from keras_resnet.export.network import check
from keras_resnet.export.onnx import export_onnx, open_onnx
from keras_resnet.export.report import accuracies, latencies, write_report
from keras_resnet.export.saved_model import export_saved_model
from keras_resnet.export.tflite import QUANTIZATIONS, calibration_images, device_images, export_tflite

FORMATS = {"saved_model": "tensorflow", "tflite": "ai_edge_litert", "onnx": "onnxruntime"}  # and what each is run by
_COMPARED = 128  # images of the evaluation set


def export(
    model: keras.Model,
    card: Card,
    folder: Path,
    formats: tuple[str, ...] = ("saved_model", "tflite"),
    quantize: tuple[str, ...] = ("none",),
    *,
    training: Source | None = None,
    evaluation: Source | None = None,
    dtype: str = "float32",
    top: int = 5,
    dynamic_batch: bool = False,
    uint8_output: bool = False,
    about: dict | None = None,
) -> list[dict]:
    """Exports a network and measures what was exported.

    Args:
        model: a network of this package with its top.
        card: its card.
        folder: where the files go; `report.json` and `report.md` too.
        formats: some of `FORMATS`.
        quantize: for TFLite: some of `QUANTIZATIONS`.
        training: the training set, on which int8 is calibrated.
        evaluation: the set on which the files are compared and their accuracy is measured.
        dtype: what the SavedModel computes in.
        top: how many classes the SavedModel names.
        dynamic_batch: whether TFLite files can be resized to any batch.
        uint8_output: whether the int8 file gives uint8.
        about: what the report is to say besides.

    Returns:
        A row for the network and each file, as the report has them.

    Example:
    >>> card = default_card("ResNet20", NAMED["cifar10"], 10)
    >>> rows = export(keras_resnet.ResNet20(), card, Path("exported"), ("saved_model",))
    >>> [row["file"] for row in rows]
    ['the network', 'saved_model/1']
    """
    check_formats(formats)
    _check(card, formats, quantize, training, evaluation)
    folder.mkdir(parents=True, exist_ok=True)
    check(model, card)
    compared = examples(model, card, None if evaluation is None else _first_images(evaluation, card))
    stem, rows, openers = card.network.lower(), [{"file": "the network", "bytes": 4 * model.count_params()}], {}
    if "saved_model" in formats:
        version = export_saved_model(model, card, folder / "saved_model", dtype=dtype, top=top)
        size = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
        rows.append({"file": f"saved_model/{version.name}", "bytes": size})

    def add(name, open_file, comparison):
        rows.append({"file": name, "bytes": (folder / name).stat().st_size, **comparison._asdict()})
        openers[name] = lambda threads=None: open_file(folder / name, threads)

    quantize = quantize if "tflite" in formats else ()
    for quantization in tqdm(quantize, unit="file", desc="TFLite", disable=not quantize):
        integer = QUANTIZATIONS[quantization].integer
        name = f"{stem}.tflite" if quantization == "none" else f"{stem}-{quantization}.tflite"
        settings = {
            "calibration": calibration_images(training, card) if integer else None,
            "uint8_output": uint8_output and integer,
        }
        path = folder / name
        settings |= {"compared": compared, "dynamic_batch": dynamic_batch}
        result = export_tflite(model, card, path, quantization, **settings)
        add(name, lambda file, threads: run_tflite(file, threads)[0], result)
    if "onnx" in formats:
        add(f"{stem}.onnx", open_onnx, export_onnx(model, card, folder / f"{stem}.onnx", compared=compared))

    timed = [row for row in rows if row["file"] in openers]
    for row in tqdm(timed, unit="file", desc="latency", disable=not timed):
        row |= latencies(openers[row["file"]], card)
    if evaluation is not None:
        runs = {"the network": classifier(model, card)} | {name: opener() for name, opener in openers.items()}
        for name, accuracy in accuracies(runs, evaluation, card).items():
            next(row for row in rows if row["file"] == name)["accuracy"] = accuracy
    write_report(rows, about or {}, folder)
    return rows


def check_formats(formats: Sequence[str]) -> None:
    """Refuses formats that there are not, or whose package is missing.

    Example:
    >>> check_formats(["saved_model"])
    """
    _check_names("formats", formats, FORMATS)
    for name in formats:
        if importlib.util.find_spec(FORMATS[name]) is None:
            extra = {"tflite": "export"}.get(name, name)
            raise ImportError(
                f"Files are run before they are handed over: pip install 'keras-resnet-garden[{extra}]', or leave "
                f"{name} out of the formats. Received: formats={tuple(formats)}."
            )


def _check_names(what: str, names: Sequence[str], choices: Iterable[str]) -> None:
    if not names or not set(names) <= set(choices):
        raise ValueError(f"`{what}` are some of {', '.join(choices)}. Received: {what}={tuple(names)}.")


def _check(card: Card, formats, quantize, training: Source | None, evaluation: Source | None) -> None:
    _check_names("quantize", quantize, QUANTIZATIONS)
    if "tflite" in formats and "int8" in quantize and training is None:
        raise ValueError("int8 is calibrated on training images: give a dataset. Received: training=None.")
    for source in filter(None, (training, evaluation)):
        if source.num_classes != len(card.class_names):
            raise ValueError(
                f"The network has {len(card.class_names)} classes, the data {source.num_classes}. "
                f"Received: {source.name!r}."
            )


def _first_images(source: Source, card: Card) -> np.ndarray:
    stack = device_images(card)
    images = source.dataset().take(_COMPARED).map(lambda image, _: apply(stack, image), tf.data.AUTOTUNE)
    return np.stack(list(images.as_numpy_iterator()))
