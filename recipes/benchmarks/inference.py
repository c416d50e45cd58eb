"""Inference against peers: ResNet-50 as each library exports it, on normalised images of 224 pixels.

All run the network alone: what comes before it (decoding, resize) is ours only.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from benchmarks import torch_inference

import keras_resnet
from keras_resnet.cards import default_card
from keras_resnet.classifiers import run_tflite
from keras_resnet.export.compare import pictures
from keras_resnet.export.saved_model import export_saved_model
from keras_resnet.export.tflite import export_tflite
from keras_resnet.preprocessing import NAMED

Times = Callable[[int], list[float]]  # seconds of each of so many runs


def measurements(quick: bool, peers_python: str | None) -> list[tuple[str, str, dict[str, Callable[[], float]]]]:
    """Title, unit and contenders of each table; for milliseconds a ratio below 1 is the faster one."""
    folder = Path(tempfile.mkdtemp())
    model, card = _as_if_trained(keras_resnet.ResNet50()), default_card("ResNet50", NAMED["torch"], 1000)
    networks = _exported(model, card, folder)
    tables = []
    for batch, runs in ((1, 5 if quick else 40), (16, 1 if quick else 3)):
        images = tf.constant(np.random.default_rng(0).normal(size=(batch, 224, 224, 3)).astype("float32"))
        times = {name: _times(network, images) for name, network in networks.items()}
        if peers_python:
            name, times_of_torch = torch_inference.contender(peers_python, batch)
            times = {name: times_of_torch} | times
        title = f"infer ResNet-50, batch {batch}"
        if batch > 1:
            rates = {name: _rate(contender, batch, runs) for name, contender in times.items()}
            tables += _by_dtype(title, "images/s", rates)
        else:
            for percentile in (50, 99):
                latencies = {name: _latency(contender, percentile, runs) for name, contender in times.items()}
                tables += _by_dtype(f"{title}, p{percentile}", "ms", latencies)
    tables.append(_tflite(model, card, folder, 3 if quick else 20))
    return tables


def _by_dtype(title: str, unit: str, contenders: dict[str, Callable[[], float]]) -> list[tuple]:
    """All that compute in float32 against each other, and ours in bfloat16 against ours in float32."""
    *theirs, single, half = contenders.items()
    return [(f"{title}, float32", unit, dict([*theirs, single])), (f"{title}, bfloat16", unit, dict([single, half]))]


def _as_if_trained(model: keras.Model) -> keras.Model:
    """Gives batch norms something to do: TensorFlow leaves out constants of zero, and trained networks have none."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable, low, high in ((layer.gamma, 0.3, 0.7), (layer.moving_mean, -0.3, 0.3)):
                variable.assign(random.uniform(low, high, variable.shape))
    return model


def _exported(model: keras.Model, card, folder: Path) -> dict[str, Callable]:
    """Loaded networks."""
    applications = _as_if_trained(keras.applications.ResNet50(weights=None))
    applications.export(folder / "applications", verbose=False)
    places = {"keras.applications": (folder / "applications", "serve")}
    for dtype, name in (("float32", "keras_resnet"), ("bfloat16", "keras_resnet in bfloat16")):
        places[name] = (export_saved_model(model, card, folder / dtype, dtype=dtype), "network")

    def loaded(path, function):
        module = tf.saved_model.load(path)  # its variables live as long as it does
        return lambda images: getattr(module, function)(images)

    return {name: loaded(*place) for name, place in places.items()}


def _tflite(model: keras.Model, card, folder: Path, runs: int) -> tuple[str, str, dict[str, Callable[[], float]]]:
    images, contenders = pictures(card, 16), {}
    for quantize, name in (("none", "float32"), ("float16", "float16"), ("dynamic", "dynamic"), ("int8", "int8")):
        path = folder / f"{quantize}.tflite"
        export_tflite(model, card, path, quantize, calibration=images)
        contenders[name] = _rate(_times(run_tflite(path, threads=1)[0], images[:1]), 1, runs)
    return "infer ResNet-50, TFLite, one thread", "images/s", contenders


def _times(run: Callable, images) -> Times:
    def times(count: int) -> list[float]:
        found = []
        for _ in range(count):
            start = time.perf_counter()
            keras.tree.map_structure(np.asarray, run(images))  # a number in hand: the run has ended
            found.append(time.perf_counter() - start)
        return found

    return times


def _rate(times: Times, batch: int, runs: int) -> Callable[[], float]:
    return lambda: batch / statistics.mean(times(runs))


def _latency(times: Times, percentile: int, runs: int) -> Callable[[], float]:
    return lambda: 1e3 * float(np.percentile(times(runs), percentile))
