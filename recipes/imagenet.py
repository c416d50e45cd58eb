"""Trains a network on ImageNet, on another image set of tfds or on a folder of photographs, by the paper's recipe.

Where ImageNet is not prepared it says so, and trains a small network on a small set of drawn pictures instead.

  python recipes/imagenet.py --strategy=mirrored --data_dir=$HOME/tensorflow_datasets
  python recipes/imagenet.py --dataset=photos/ --epochs=30 --batch_size=64
"""

import common
import training_flags
from absl import flags

training_flags.define()
flags.adopt_module_key_flags(training_flags)  # so that --help shows them
FLAGS = flags.FLAGS


def recipe() -> str:
    """The recipe that the flags name; the demo where ImageNet is meant and not there."""
    if FLAGS.recipe or FLAGS.dataset:
        return FLAGS.recipe or "paper"
    from keras_resnet.data.sources import open_source

    try:
        open_source("imagenet2012", "train", data_dir=FLAGS.data_dir)
    except FileNotFoundError:
        # Data that is said to be there is not replaced, nor may each worker see for itself what there is to train on.
        if FLAGS.data_dir or (FLAGS.strategy == "multi_worker" and FLAGS.launch_local_workers is None):
            raise
        print(
            "ImageNet was not found: prepare imagenet2012 with tfds and give --data_dir, or give --dataset. "
            "Training on the demo set instead."
        )
        return "demo"
    return "paper"


def main(_):
    """Trains."""
    config = training_flags.configuration(recipe())

    from keras_resnet.training.loop import train

    return training_flags.run(config, train)


if __name__ == "__main__":
    common.run(main)
