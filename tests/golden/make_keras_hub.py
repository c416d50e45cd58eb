"""Saves a narrow ResNet of keras-hub as its own presets are saved, and records what it answers.

`python -m golden.make_keras_hub`, in this folder's parent, needs keras-hub and TensorFlow; the suite needs neither.
"""

import json
from pathlib import Path

import keras
import keras_hub
from golden.recipe import CLASSES, images, uniform

FOLDER = Path(__file__).with_name("keras_hub")


def main():
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 16, 16, 16],
        stackwise_num_blocks=[1, 2, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        use_pre_activation=False,
    )
    task = keras_hub.models.ImageClassifier(backbone, num_classes=CLASSES, preprocessor=None)
    for variable in task.weights:
        low, high = {"moving_variance": (0.5, 1.5), "gamma": (0.3, 0.7)}.get(variable.name, (-0.3, 0.3))
        if variable.name != "kernel":
            variable.assign(uniform(variable.path, variable.shape, low, high))
    FOLDER.mkdir(exist_ok=True)
    task.save_weights(FOLDER / "task.weights.h5")
    answer = keras.ops.convert_to_numpy(task(images())).tolist()
    source = f"keras-hub {keras_hub.__version__}, keras {keras.__version__}"
    (FOLDER / "logits.json").write_text(json.dumps({"source": source, "logits": answer}) + "\n")


if __name__ == "__main__":
    main()
