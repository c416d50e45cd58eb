"""Exports a trained network: a SavedModel that takes JPEG bytes, TFLite files for phones, ONNX; and reports on them.

python recipes/export.py --model=runs/mine/model.keras --output=exported
python recipes/export.py --model=ResNet20 --weights=cifar10 --output=exported --quantize=none,int8 --dataset=cifar10
"""

import shlex
import sys
from pathlib import Path

import common
from absl import flags

common.define_model_flags()
flags.DEFINE_list("format", ["saved_model", "tflite"], "Some of saved_model, tflite, onnx.")
flags.DEFINE_list("quantize", ["none"], "TFLite: some of none, float16, dynamic, int8.")
flags.DEFINE_string("dataset", None, "Its training images calibrate int8; accuracy is measured on its others.")
flags.DEFINE_string("data_dir", None, "Where tfds keeps prepared data.")
flags.DEFINE_string("test_split", "validation", "The split that accuracy is measured on.")
flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "What the SavedModel computes in.")
flags.DEFINE_integer("top", 5, "How many classes the SavedModel names.", lower_bound=1)
flags.DEFINE_bool("dynamic_batch", False, "Whether TFLite files can be resized to any batch; else it is 1.")
flags.DEFINE_bool("uint8_output", False, "Whether the int8 file gives uint8 instead of float32.")
flags.DEFINE_string("output", None, "Folder of the exported files.", required=True)
FLAGS = flags.FLAGS


def main(_):
    """Exports."""
    from keras_resnet.cards import open_model
    from keras_resnet.data.sources import open_pair
    from keras_resnet.export.report import markdown
    from keras_resnet.export.run import export

    sources = {}
    if FLAGS.dataset:
        pair = open_pair(FLAGS.dataset, test_split=FLAGS.test_split, data_dir=FLAGS.data_dir)
        sources = dict(zip(("training", "evaluation"), pair))
    model, card = open_model(**{"input_shape": (None, None, 3)} | common.chosen_model())
    command = shlex.join(["python", "recipes/export.py", *sys.argv[1:]])
    rows = export(
        model,
        card,
        Path(FLAGS.output),
        tuple(FLAGS.format),
        tuple(FLAGS.quantize),
        dtype=FLAGS.dtype,
        top=FLAGS.top,
        dynamic_batch=FLAGS.dynamic_batch,
        uint8_output=FLAGS.uint8_output,
        about={"command": command, "network": card.network, "data": FLAGS.dataset or "none"},
        **sources,
    )
    print(f"\n{markdown(rows)}\n\nEach file was run and answers as the network does. Files and report: {FLAGS.output}")
    print(next_commands(Path(FLAGS.output) / "saved_model", card.network.lower()))


def next_commands(served: Path, network: str) -> str:
    """What one does with a SavedModel."""
    versions = [int(folder.name) for folder in served.glob("[0-9]*")]
    if not versions:
        return ""
    folder = shlex.quote(str(served / str(max(versions))))
    serve, ask = common.serving_commands(served, network)
    return f"Look at it:  saved_model_cli show --dir {folder} --all\nServe it:    {serve}\nAsk it:      {ask}"


if __name__ == "__main__":
    common.run(main)
