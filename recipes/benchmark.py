"""Measures keras_resnet against its peers, alternately and in one run.

A measurement has contenders: names and functions that do some work and return how much of it they did a second (or how
many seconds it took). They run in turn, A B A B ..., after a warm-up each, so that a machine whose speed drifts slows
all of them; what is quoted is the medians, and the median and the spread of the ratios round by round. There are

  import, build   how long it takes to import the package and to build ResNet-50
  train, loop     training through `fit`; an epoch with all there is to it, against its bare steps
  input           from encoded images to augmented batches
  infer           exported networks: SavedModel and TFLite
  all

  python recipes/benchmark.py train infer --peers_python=torch/bin/python --json=results.json
  python recipes/benchmark.py all --quick
"""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import common
from absl import app, flags
from benchmarks import torch_training

FLAGS = flags.FLAGS
_QUICK = flags.DEFINE_bool("quick", False, "Three rounds of less work: to see that it runs, not to quote.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Counted rounds of each contender.", lower_bound=1)
_ONLY = flags.DEFINE_string("only", "", "Only the measurements whose title has this in it.")
_PEERS_PYTHON = flags.DEFINE_string("peers_python", None, "Interpreter that has PyTorch, which takes part then.")
_IMAGES = flags.DEFINE_string("images", None, "Folder of JPEGs for `input`, in place of drawn ones.")
_JSON = flags.DEFINE_string("json", None, "Also write the results to this file, after each measurement.")


class Measurement(NamedTuple):
    """What is measured, in which unit, and who takes part; the last contender is compared with each of the others."""

    title: str
    unit: str
    contenders: dict[str, Callable[[], float]]


def import_() -> list[Measurement]:
    """Seconds that an import takes in a new process, and what ours adds to Keras's."""

    def seconds(before: str, module: str) -> float:
        code = f"import time{before}; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return float(result.stdout)

    contenders = {
        "import keras": lambda: seconds("", "keras"),
        "import keras_resnet, after keras": lambda: seconds(", keras", "keras_resnet"),
    }
    return [Measurement("import", "s", contenders)]


def build() -> list[Measurement]:
    """Seconds to build ResNet-50 with random weights."""
    import keras

    import keras_resnet

    def seconds(constructor) -> float:
        keras.backend.clear_session()
        start = time.perf_counter()
        constructor(weights=None)
        return time.perf_counter() - start

    contenders = {
        "keras.applications": lambda: seconds(keras.applications.ResNet50),
        "keras_resnet": lambda: seconds(keras_resnet.ResNet50),
    }
    return [Measurement("build ResNet-50", "s", contenders)]


def train() -> list[Measurement]:
    """Images a second of `fit`, on one batch that lies in memory."""
    import keras

    import keras_resnet

    def stock(model):
        """The same network with Keras's own batch norm."""

        def replace(layer):
            if isinstance(layer, keras_resnet.BatchNormalization):
                return keras.layers.BatchNormalization.from_config(layer.get_config())
            return layer.__class__.from_config(layer.get_config())

        return keras.models.clone_model(model, clone_function=replace)

    def applications(dtype):
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(dtype)  # keras.applications knows no policy of its own
        try:
            return keras.applications.ResNet50(weights=None)
        finally:
            keras.config.set_dtype_policy(policy)

    measurements = []
    for dtype in ("float32", "mixed_bfloat16"):
        small = keras_resnet.ResNet20(dtype=dtype)
        size = {"batch": 128, "steps": 2 if _QUICK.value else 48}  # what `fit` begins with is not to count
        contenders = {"Keras's batch norm": _training(stock(small), **size), "keras_resnet": _training(small, **size)}
        measurements.append(Measurement(f"train ResNet-20, batch 128, {dtype}", "images/s", contenders))
    for dtype in ("float32", "mixed_bfloat16"):
        size = {"batch": 8, "steps": 1 if _QUICK.value else 4}
        contenders = {"keras.applications": _training(applications(dtype), **size)}
        if _PEERS_PYTHON.value:
            contenders |= [torch_training.contender(_PEERS_PYTHON.value, dtype, **size)]
        contenders["keras_resnet"] = _training(keras_resnet.ResNet50(dtype=dtype), **size)
        measurements.append(Measurement(f"train ResNet-50 at 224, batch 8, {dtype}", "images/s", contenders))
    return measurements


def _training(model, batch: int, steps: int) -> Callable[[], float]:
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_resnet.data.pipeline import without_waiting

    random = np.random.default_rng(0)
    images = random.normal(size=(batch, *model.input_shape[1:])).astype("float32")
    labels = random.integers(0, model.output_shape[-1], batch)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")

    same_batch = without_waiting(tf.data.Dataset.from_tensors((images, labels)).repeat())

    def images_a_second() -> float:
        start = time.perf_counter()
        model.fit(same_batch, steps_per_epoch=steps, shuffle=False, verbose=0)  # ends with the loss as a number
        return batch * steps / (time.perf_counter() - start)

    return images_a_second


def input_() -> list[Measurement]:
    """Images a second from encoded images to augmented batches."""
    from benchmarks import input_pipelines

    return [Measurement(*row) for row in input_pipelines.measurements(_QUICK.value, _PEERS_PYTHON.value, _IMAGES.value)]


def loop() -> list[Measurement]:
    """Images a second of an epoch of `train`, against the bare steps in it."""
    from benchmarks import training_loop

    return [Measurement(*row) for row in training_loop.measurements(_QUICK.value)]


def infer() -> list[Measurement]:
    """Exported ResNet-50s: latency of one image, images a second of 16; TFLite on one thread."""
    from benchmarks import inference

    return [Measurement(*row) for row in inference.measurements(_QUICK.value, _PEERS_PYTHON.value)]


BENCHMARKS = {"import": import_, "build": build, "train": train, "loop": loop, "input": input_, "infer": infer}


def measure(measurement: Measurement, rounds: int) -> dict:
    """Runs the contenders in turn; the values of each round, and their medians."""
    values = {name: [] for name in measurement.contenders}
    for turn in range(rounds + 1):
        for name, contender in measurement.contenders.items():
            value = contender()
            if turn:  # the first round is the warm-up
                values[name].append(value)
        print(f"\r{measurement.title}: round {turn} of {rounds} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    medians = {name: statistics.median(own) for name, own in values.items()}
    return {"measurement": measurement.title, "unit": measurement.unit, "medians": medians, "rounds": values}


def markdown(results: list[dict]) -> str:
    """The results as a table: a row for each contender that the last one is compared with."""

    def told(value: float, unit: str) -> str:
        return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"

    lines = [
        "| measurement | against | median | contender | median | ratio | of rounds |",
        "|---|---|--:|---|--:|--:|--:|",
    ]
    for result in results:
        *others, name = result["rounds"]
        medians = {each: told(median, result["unit"]) for each, median in result["medians"].items()}
        for other in others or [None]:
            ratios = [ours / theirs for ours, theirs in zip(result["rounds"][name], result["rounds"].get(other, ()))]
            compared = f"{statistics.median(ratios):.2f} | {min(ratios):.2f} - {max(ratios):.2f}" if ratios else "|"
            cells = result["measurement"], other or "", medians.get(other, ""), name, medians[name], compared
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> dict:
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text()
        cpu = next((line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), cpu)
        cpu += " with avx512_bf16" if "avx512_bf16" in text else ""
    versions = {}
    for package in ("tensorflow", "keras", "torch", "numpy", "keras-resnet-garden"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
        "command": " ".join(["python", "recipes/benchmark.py", *sys.argv[1:]]),
    }


def main(arguments: list[str]):
    """The command line: which benchmarks to run."""
    chosen = arguments[1:] or ["all"]
    names = list(BENCHMARKS) if chosen == ["all"] else chosen
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise app.UsageError(f"Benchmarks are {', '.join(BENCHMARKS)} and all. Received: {' '.join(unknown)}.")
    rounds, about, results = 3 if _QUICK.value else _ROUNDS.value, machine(), []
    for measurement in (each for name in names for each in BENCHMARKS[name]()):
        if _ONLY.value in measurement.title:
            results.append(measure(measurement, rounds))
            if _JSON.value:
                Path(_JSON.value).write_text(json.dumps({"machine": about, "results": results}, indent=1) + "\n")
    print(markdown(results))
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items() if version)
    print(
        f"\n`{about['command']}`, {about['date']}, {about['cpu']}, {about['cores']} cores, {versions}; {rounds} rounds."
    )


if __name__ == "__main__":
    common.run(main, takes_arguments=True)
