"""Trains a network on CIFAR-10 as section 4.2 of the paper has it, or in half the steps (--recipe=cifar-fast).

Runs on every backend of Keras; under KERAS_BACKEND=jax TensorFlow need not be installed.

  python recipes/cifar10.py --data_dir=cifar-10-python.tar.gz --model=ResNet20
  python recipes/cifar10.py --recipe=cifar-paper-110
"""

import common
import training_flags
from absl import flags

training_flags.define("cifar-paper")
flags.adopt_module_key_flags(training_flags)  # so that --help shows them


def main(_):
    """Trains."""
    config = training_flags.configuration(flags.FLAGS.recipe)

    from keras_resnet.training.loop import train

    return training_flags.run(config, train)


if __name__ == "__main__":
    common.run(main)
