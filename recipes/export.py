"""Exports a trained network: a SavedModel that takes JPEG bytes, TFLite files for phones, ONNX; and reports on them.

python recipes/export.py --model=runs/mine/model.keras --output=exported
python recipes/export.py --model=ResNet20 --weights=w.safetensors --preprocessing=cifar10 --output=exported \
      --quantize=none,float16,dynamic,int8 --dataset=cifar10 --data_dir=$HOME/tensorflow_datasets
"""

import os
import shlex
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter; Python's warnings stay

from absl import app, flags, logging

flags.DEFINE_string("model", None, "A .keras file, or the name of a network.", required=True)
flags.DEFINE_string("weights", None, "For a name: the tag of published weights, or a file.")
flags.DEFINE_string("preprocessing", None, "torch, caffe, cifar10 or torch_cifar, where the weights do not say.")
flags.DEFINE_list("format", ["saved_model", "tflite"], "Some of saved_model, tflite, onnx.")
flags.DEFINE_list("quantize", ["none"], "TFLite: some of none, float16, dynamic, int8.")
flags.DEFINE_string("dataset", None, "Its training images calibrate int8; accuracy is measured on its others.")
flags.DEFINE_string("data_dir", None, "Where tfds keeps prepared data.")
flags.DEFINE_string("test_split", "validation", "The split that accuracy is measured on.")
flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "What the SavedModel computes in.")
flags.DEFINE_integer("top", 5, "How many classes the SavedModel names.", lower_bound=1)
flags.DEFINE_bool("dynamic_batch", False, "Whether TFLite files can be resized to any batch; else it is 1.")
flags.DEFINE_bool("uint8_output", False, "Whether the int8 file gives uint8 instead of float32.")
flags.DEFINE_multi_string("set", [], "A setting of the network that the weights need, as zero_channels=around.")
flags.DEFINE_string("output", None, "Folder of the exported files.", required=True)
FLAGS = flags.FLAGS


def next_commands(output: Path, network: str) -> str:
    """What one does with the files."""
    served = output.resolve() / "saved_model"
    version = max((int(folder.name) for folder in served.glob("[0-9]*")), default=None)
    if version is None:
        return ""
    folder, volume = shlex.quote(str(served / str(version))), shlex.quote(f"{served}:/models/{network}")
    return (
        f"Look at it:  saved_model_cli show --dir {folder} --all\n"
        f"Serve it:    docker run --rm -p 8501:8501 -v {volume} -e MODEL_NAME={network} tensorflow/serving\n"
        f"""Ask it:      curl -d '{{"instances": [{{"b64": "'$(base64 -w0 photo.jpg)'"}}]}}' """
        f"localhost:8501/v1/models/{network}:predict"
    )


def run():
    """Exports."""
    from keras_resnet.cards import open_model
    from keras_resnet.data.sources import open_source
    from keras_resnet.export.report import markdown
    from keras_resnet.export.run import export

    settings = dict(setting.split("=", 1) for setting in FLAGS.set)
    model, card = open_model(FLAGS.model, FLAGS.weights, FLAGS.preprocessing, input_shape=(None, None, 3), **settings)
    output, sources = Path(FLAGS.output), {}
    if FLAGS.dataset:
        for name, split in (("training", "train"), ("evaluation", FLAGS.test_split)):
            sources[name] = open_source(FLAGS.dataset, split, data_dir=FLAGS.data_dir)
    rows = export(
        model,
        card,
        output,
        tuple(FLAGS.format),
        tuple(FLAGS.quantize),
        dtype=FLAGS.dtype,
        top=FLAGS.top,
        dynamic_batch=FLAGS.dynamic_batch,
        uint8_output=FLAGS.uint8_output,
        about={"command": shlex.join(["python", "recipes/export.py", *sys.argv[1:]]), "network": card.network},
        **sources,
    )
    print(f"\n{markdown(rows)}\n\nEach file was run and answers as the network does. Files and report: {output}")
    print(next_commands(output, card.network.lower()))


def main(_):
    """The command line; what a user can mend is said in a line."""
    logging.set_verbosity(logging.WARNING)
    try:
        run()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"export: {error}")


if __name__ == "__main__":
    app.run(main)
