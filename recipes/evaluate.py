"""Tests a trained network on a set of images by the paper's protocols, and keeps a record of it.

For example:

  python recipes/evaluate.py --model=ResNet50 --weights=imagenet --data_dir=$HOME/tensorflow_datasets
  python recipes/evaluate.py --model=runs/photos/model.keras --dataset=photos/ --protocol=ten_crop
"""

import shlex
import sys

import common
from absl import flags

common.define_model_flags()
flags.DEFINE_string("dataset", "imagenet2012", "Name of a tfds image set, or a folder with a folder for each class.")
flags.DEFINE_string("data_dir", None, "Where tfds keeps prepared data.")
flags.DEFINE_string("split", "validation", "Split, or a part of one such as test[:1000].")
flags.DEFINE_enum("protocol", "center", ["center", "ten_crop", "multi_scale"], "Which of the paper's tests.")
flags.DEFINE_integer("batch_size", 64, "Images at a time, on all devices together.", lower_bound=1)
flags.DEFINE_enum("strategy", "none", ["none", "one_device", "mirrored", "tpu"], "How it is distributed.")
flags.DEFINE_string("results", "results.csv", "CSV file that gets a row with what was measured.")
flags.DEFINE_string("report_dir", None, "Folder for accuracies by class, confused pairs and the confusion matrix.")
FLAGS = flags.FLAGS


def main(_):
    """Evaluates."""
    from keras_resnet.classifiers import open_classifier
    from keras_resnet.data.sources import open_test
    from keras_resnet.evaluation import evaluate
    from keras_resnet.reports import append_row, record, write_report
    from keras_resnet.training.strategies import get_strategy

    source = open_test(FLAGS.dataset, FLAGS.split, FLAGS.data_dir)
    strategy = get_strategy(FLAGS.strategy)
    with strategy.scope():
        classifier = open_classifier(**common.chosen_model())
    result = evaluate(classifier, source, FLAGS.protocol, FLAGS.batch_size, strategy, progress=True)

    command = shlex.join(["python", "recipes/evaluate.py", *sys.argv[1:]])
    more = {"command": command, "model": FLAGS.model, "weights": FLAGS.weights or "", "protocol": FLAGS.protocol}
    append_row(FLAGS.results, record(classifier, source, result, **more))
    if FLAGS.report_dir:
        write_report(result, FLAGS.report_dir)
    numbers = result.summary()
    print(
        "{split}: {images} images, {errors} errors: "
        "top-1 {top1:.2%} (95 % interval {top1_low:.2%} to {top1_high:.2%}), top-5 {top5:.2%}, loss {loss:.4f}".format(
            **numbers, split=source.split
        )
    )
    print("Written:", ", ".join(filter(None, [FLAGS.results, FLAGS.report_dir])))


if __name__ == "__main__":
    common.run(main)
