"""The flags of the recipes that train: fields of `Config`, and where the run's folder is."""

import dataclasses
import importlib.util
import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
from absl import flags

if TYPE_CHECKING:  # it imports Keras, and --help need not wait for that
    from keras_resnet.training.config import Config

FLAGS = flags.FLAGS


def define(recipe: str | None = None) -> None:
    """Defines the flags; `recipe` is the default of the first."""
    flags.DEFINE_string(
        "recipe",
        recipe,
        "Settings to start from, which the other flags override: "
        "paper, paper-plateau, goyal90, a3, cifar-paper, cifar-paper-110, cifar-fast, finetune or demo.",
    )
    flags.DEFINE_string("dataset", None, "Name of an image set, or a folder with a folder for each class.")
    flags.DEFINE_string("data_dir", None, "Where prepared data lies.")
    flags.DEFINE_string("train_split", None, "Split to train on, such as train[:90%].")
    flags.DEFINE_string("test_split", None, "Split to measure on after every epoch.")
    flags.DEFINE_string("model", None, "Name of the network: python -m keras_resnet lists them.")
    flags.DEFINE_string("weights", None, "Weights to start from: a tag or a file.")
    flags.DEFINE_string("augmentation", None, "Of training images: paper, inception, modern or cifar.")
    flags.DEFINE_integer("image_size", None, "Height and width of the training crops.", lower_bound=1)
    flags.DEFINE_integer("batch_size", None, "Global batch size.", lower_bound=1)
    flags.DEFINE_float("epochs", None, "How often each image is seen.", lower_bound=0)
    flags.DEFINE_integer("steps", None, "Training steps, in place of epochs.", lower_bound=1)
    flags.DEFINE_float("learning_rate", None, "The first learning rate, or the highest where it rises.")
    flags.DEFINE_enum("dtype", None, ["float32", "mixed_bfloat16", "mixed_float16"], "Precision of the network.")
    flags.DEFINE_string("strategy", None, "Devices: none, one_device, mirrored, multi_worker or tpu.")
    flags.DEFINE_string("tpu", None, "Name or address of the TPU, where TPU_NAME does not say it.")
    flags.DEFINE_string("all_reduce", None, "How gradients are summed: nccl, hierarchical or ring.")
    flags.DEFINE_integer("seed", None, "Seed of initialisation, order and augmentation.")
    flags.DEFINE_bool("deterministic", None, "The same seed gives the same bits; slower on a GPU.")
    flags.DEFINE_list("export", None, "Also export the network: some of saved_model, tflite, onnx.")
    flags.DEFINE_integer("launch_local_workers", None, "Try multi_worker: processes here.", lower_bound=0)
    flags.DEFINE_multi_string("set", [], "NAME=VALUE for any other field of training/config.py")
    flags.DEFINE_string("run_dir", None, "Folder of the run, also gs://; what was begun there goes on.")


def configuration(recipe: str) -> "Config":
    """The recipe with what the flags say."""
    from keras_resnet.training.config import RECIPES, Config

    if recipe not in RECIPES:
        raise ValueError(f"--recipe is one of {', '.join(RECIPES)}. Received: {recipe!r}.")
    fields = {field.name for field in dataclasses.fields(Config)}
    given = {name: FLAGS[name].value for name in fields & set(FLAGS) if FLAGS[name].value is not None}
    unknown = common.settings().keys() - fields
    if unknown:
        known = ", ".join(sorted(fields))
        raise ValueError(f"--set takes NAME=VALUE with a name of {known}. Received: {min(unknown)!r}.")
    given |= common.settings()
    if given.get("image_size", RECIPES[recipe].image_size) != RECIPES[recipe].image_size:
        given = {"low": None, "high": None} | given  # a recipe's own are for its size
    if "epochs" in given and "steps" not in given:
        given["steps"] = None  # a recipe's own steps give way
    config = dataclasses.replace(RECIPES[recipe], **given)
    return dataclasses.replace(config, learning_rate=config.highest_rate)  # a number, to be shown and written down


def run(config: "Config", train: Callable[["Config", str], Any]) -> int:
    """Trains, saying first with what and at the end what came out; returns the process's status."""
    name = f"{config.model}-{Path(config.dataset).name}-{time.strftime('%Y%m%d-%H%M%S')}"
    run_dir = FLAGS.run_dir or f"runs/{name}"
    if FLAGS.launch_local_workers:
        return _launch(FLAGS.launch_local_workers, run_dir)
    if config.strategy == "multi_worker" and not FLAGS.run_dir:
        raise ValueError("The workers must agree on the run's folder: give --run_dir. Received: no --run_dir.")
    if FLAGS.export:
        from keras_resnet.export.run import check_formats

        check_formats(FLAGS.export)  # before days of training
    for field in dataclasses.fields(config):
        print(f"  {field.name} = {getattr(config, field.name)!r}")
    print(f"  run_dir = {run_dir}")

    from keras_resnet.training.callbacks import Diverged, Interrupted

    start = time.monotonic()
    try:
        train(config, run_dir)
    except Interrupted as stop:
        goes_on = "goes on from there" if stop.folder else "begins again"
        print(f"\n{stop} The same command with {shlex.quote(f'--run_dir={run_dir}')} {goes_on}.")
        return 128 + stop.signum
    except (Diverged, RuntimeError) as error:
        if FLAGS.verbosity > 0:
            raise
        print(f"\n{error}", file=sys.stderr)
        return 1
    _summarise(config, run_dir, time.monotonic() - start)
    return 0


def _launch(count: int, run_dir: str) -> int:
    from keras_resnet.training.local_workers import launch_local_workers

    command = [sys.executable, *sys.argv, "--strategy=multi_worker", f"--run_dir={run_dir}", "--launch_local_workers=0"]
    return launch_local_workers(count, command)


def _export(folder: Path, formats: tuple[str, ...]) -> None:
    from keras_resnet.cards import open_model
    from keras_resnet.export.run import export

    model, card = open_model(str(folder / "model.keras"))
    about = {"command": shlex.join(["python", *sys.argv]), "network": card.network, "data": "none"}
    export(model, card, folder / "export", formats, about=about)


def _summarise(config: "Config", run_dir: str, seconds: float) -> None:
    from keras_resnet.data.files import is_remote
    from keras_resnet.training.remote import local_of, push

    if config.strategy == "multi_worker":
        from keras_resnet.training.strategies import cluster_resolver, place_in

        if place_in(cluster_resolver())[0]:  # another worker writes, and says what comes next
            return
    folder = local_of(run_dir)
    result = json.loads((folder / "result.json").read_text())
    if FLAGS.export:
        _export(folder, tuple(FLAGS.export))
        if is_remote(run_dir):
            push(folder, run_dir)
    print(
        f"Top-1 {result['accuracy']:.2%} on {result['examples']} test images, after {seconds:.0f} s. "
        f"Everything is in {run_dir}. What can come next:"
    )
    model, exported = shlex.quote(f"--model={folder}/model.keras"), folder / "export"
    data = [f"--dataset={config.dataset}", *([f"--data_dir={config.data_dir}"] if config.data_dir else [])]
    formats = "saved_model" + ",tflite" * (importlib.util.find_spec("ai_edge_litert") is not None)
    commands = [
        f"python recipes/evaluate.py {model} {shlex.join([*data, f'--split={config.test_split}'])}",
        f"python recipes/predict.py {model} PHOTOGRAPH.jpg",
        f"python recipes/export.py {model} --format={formats} {shlex.quote(f'--output={exported}')}",
    ]
    if importlib.util.find_spec("tensorflow"):
        commands += common.serving_commands(exported / "saved_model", config.model.lower())
    print("\n".join(f"  {command}" for command in commands))
