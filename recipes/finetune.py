"""Fine-tunes a network on a folder of photographs: its new classifier first, then all of it at a lower rate.

  python recipes/finetune.py --dataset=photos/ --model=ResNet50 --weights=imagenet
  python recipes/finetune.py --dataset=photos/ --model=ResNet20 --weights=runs/demo/model.keras --image_size=64

The folder has a folder of images for each class, or such folders in "train" and "val".
"""

import dataclasses

import common
import training_flags
from absl import flags

training_flags.define("finetune")
flags.adopt_module_key_flags(training_flags)  # so that --help shows them
flags.DEFINE_float(
    "head_epochs", 3, "Epochs of the first run, which trains the classifier alone; 0: none.", lower_bound=0
)
flags.DEFINE_float("head_learning_rate", 0.1, "Its highest rate; --learning_rate is the second's.")
flags.mark_flags_as_required(["dataset", "weights"])
FLAGS = flags.FLAGS


def main(_):
    """Trains."""
    from keras_resnet.training.finetuning import finetune, preprocessing_name

    def train(config, run_dir):
        return finetune(config, run_dir, FLAGS.head_epochs, FLAGS.head_learning_rate)

    config = training_flags.configuration(FLAGS.recipe)
    return training_flags.run(
        dataclasses.replace(config, preprocessing=preprocessing_name(config, FLAGS.run_dir)), train
    )


if __name__ == "__main__":
    common.run(main)
