"""Trains a network on ImageNet, on another image set of tfds or on a folder of photographs, by the paper's recipe.

Where ImageNet is not prepared it says so, and trains a small network on a small set of drawn pictures instead.

  python recipes/imagenet.py --strategy=mirrored --data_dir=$HOME/tensorflow_datasets
  python recipes/imagenet.py --dataset=photos/ --epochs=30 --batch_size=64
"""

import dataclasses
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter; Python's warnings stay

from absl import app, flags, logging

from keras_resnet.training.config import RECIPES, Config

flags.DEFINE_enum("recipe", None, list(RECIPES), "Named settings to start from; the flags below override them.")
flags.DEFINE_string("dataset", None, "Name of a tfds image set, or a folder with a folder for each class.")
flags.DEFINE_string("data_dir", None, "Where tfds keeps prepared data.")
flags.DEFINE_string("model", None, "Name of the network: python -m keras_resnet lists them.")
flags.DEFINE_integer("image_size", None, "Height and width of the training crops.", lower_bound=1)
flags.DEFINE_integer("batch_size", None, "Global batch size.", lower_bound=1)
flags.DEFINE_integer("epochs", None, "How often each image is seen.", lower_bound=1)
flags.DEFINE_float("learning_rate", None, "The first learning rate, or the highest of a schedule that warms up.")
flags.DEFINE_string("dtype", None, "float32, mixed_bfloat16 or mixed_float16.")
flags.DEFINE_enum("strategy", None, ["none", "one_device", "mirrored", "tpu"], "How training is distributed.")
flags.DEFINE_integer("seed", None, "Seed of initialisation, order and augmentation.")
flags.DEFINE_string("run_dir", None, "Folder for configuration, log and model. Default: runs/MODEL-DATASET-TIME.")
FLAGS = flags.FLAGS


def configuration() -> Config:
    """The recipe with what the flags say; the demo where ImageNet is meant and not there."""
    given = {field.name: getattr(FLAGS, field.name, None) for field in dataclasses.fields(Config)}
    given = {name: value for name, value in given.items() if value is not None}
    recipe = FLAGS.recipe or "paper"
    if recipe == "paper" and "dataset" not in given and not _is_there(given.get("data_dir")):
        print(
            "ImageNet was not found: prepare imagenet2012 with tfds and give --data_dir, or give --dataset. "
            "Training on the demo set instead."
        )
        recipe = "demo"
    return dataclasses.replace(RECIPES[recipe], **given)


def _is_there(data_dir: str | None) -> bool:
    from keras_resnet.data.sources import open_source

    try:
        open_source("imagenet2012", "train", data_dir=data_dir)
    except FileNotFoundError:
        return False
    return True


def main(_):
    """Trains."""
    logging.set_verbosity(logging.WARNING)
    config = configuration()
    for field in dataclasses.fields(config):
        print(f"  {field.name} = {getattr(config, field.name)!r}")
    name = f"{config.model}-{Path(config.dataset).name}-{time.strftime('%Y%m%d-%H%M%S')}"
    run_dir = Path(FLAGS.run_dir or Path("runs") / name)

    from keras_resnet.training.loop import train

    start = time.monotonic()
    train(config, run_dir)
    print(f"Trained in {time.monotonic() - start:.0f} s. Model, log and configuration: {run_dir}")


if __name__ == "__main__":
    app.run(main)
