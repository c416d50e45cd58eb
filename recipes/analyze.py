r"""Draws and counts what the paper shows of networks and of trainings; writes a picture, and the numbers as CSV.

For example:

  python recipes/analyze.py cost ResNet50 Plain34 model.keras --output=cost.csv
  python recipes/analyze.py responses ResNet20=resnet20.th ResNet44=resnet44.th --dataset=cifar10 --split=train \
      --preprocessing=torch_cifar --set=zero_channels=around --output=responses.png
  python recipes/analyze.py curves plain: Plain20=a/log.csv Plain56=b/log.csv residual: ResNet20=c/log.csv
  python recipes/analyze.py statistics runs/model.keras --dataset=photos/ --output=recomputed.keras
"""

from pathlib import Path

import common
from absl import app, flags

common.define_settings_flags()
flags.DEFINE_string("output", None, "File to write: PNG, with a CSV file beside it; cost: CSV; statistics: .keras.")
flags.DEFINE_integer("image_size", None, "cost: height and width, where the network does not say.", lower_bound=1)
flags.DEFINE_float("top", None, "curves: the greatest error to show.")
flags.DEFINE_string("dataset", "cifar10", "responses, statistics: a tfds image set, or a folder.")
flags.DEFINE_string("data_dir", None, "responses, statistics: where tfds keeps prepared data.")
flags.DEFINE_string("split", "train", "responses, statistics: split, or a part of one.")
flags.DEFINE_integer("batch_size", 128, "responses, statistics: images at a time.", lower_bound=1)
flags.DEFINE_integer("batches", 50, "responses, statistics: at most so many batches.", lower_bound=1)
FLAGS = flags.FLAGS


def cost(arguments):
    """Parameters and multiply-adds of networks."""
    from keras_resnet import analysis, get_model, load_model

    rows = []
    for name in arguments:
        model = load_model(name, compile=False) if name.endswith(".keras") else get_model(name, **common.settings())
        rows.append((name, *analysis.cost(model, FLAGS.image_size)))
        print("{}: {:,} parameters, {:,} moving statistics, {:,} multiply-adds".format(*rows[-1]))
    if FLAGS.output:
        print(f"Written: {FLAGS.output}")
        analysis.write_rows(FLAGS.output, ("network", "parameters", "statistics", "multiply_adds"), rows)


def responses(arguments):
    """Standard deviations of the 3x3 layers' responses, as Figure 7 has them."""
    from tqdm import tqdm

    from keras_resnet import analysis

    networks = {}
    for name in arguments:
        model, card = opened(name)
        label = Path(name).stem if name.endswith(".keras") else name.partition("=")[0]
        bar = tqdm(batches(card.preprocessing), desc=label, unit=" batches")
        networks[label] = analysis.layer_responses(model, bar)
    path = Path(FLAGS.output or "responses.png")
    rows = [(name, layer, value) for name, values in networks.items() for layer, value in values.items()]
    analysis.plot_responses(networks, path)
    analysis.write_rows(path.with_suffix(".csv"), ("network", "layer", "standard_deviation"), rows)
    print(f"Written: {path}, {path.with_suffix('.csv')}")


def curves(arguments):
    """Training and test errors of runs; `TITLE:` begins a panel."""
    from keras_resnet import analysis

    panels = {}
    for argument in arguments:
        if argument.endswith(":"):
            panels[argument[:-1]] = {}
            continue
        name, _, log = argument.rpartition("=")
        runs = panels[list(panels)[-1]] if panels else panels.setdefault("", {})
        runs[name or Path(log).parent.name] = log
    path = Path(FLAGS.output or "curves.png")
    analysis.plot_panels(panels, path, top=FLAGS.top)
    rows = [
        (title, name, *row)
        for title, runs in panels.items()
        for name, log in runs.items()
        for row in zip(*analysis.read_curve(log)[1:])
    ]
    analysis.write_rows(path.with_suffix(".csv"), ("panel", "run", "at", "training_error", "test_error"), rows)
    print(f"Written: {path}, {path.with_suffix('.csv')}")


def statistics(arguments):
    """Gives a network's batch norms true averages over training images."""
    from tqdm import tqdm

    from keras_resnet.analysis import recompute_statistics
    from keras_resnet.cards import save_model

    if len(arguments) != 1 or not FLAGS.output:
        raise app.UsageError("statistics takes one network, and --output says where it goes.")
    model, card = opened(arguments[0])
    count = recompute_statistics(model, tqdm(batches(card.preprocessing), unit=" batches"))
    save_model(model, FLAGS.output, card)
    print(f"Averages of {count} batches of {FLAGS.batch_size} images. Written: {FLAGS.output}")


def opened(name: str):
    """A network and its card: of a .keras file, or of NAME=WEIGHTS."""
    from keras_resnet.cards import open_model

    network, _, weights = (name, None, None) if name.endswith(".keras") else name.partition("=")
    return open_model(network, weights or None, FLAGS.preprocessing, **common.settings())


def batches(preprocessing):
    """Full batches of centre crops, as many as are asked for and there are."""
    from keras_resnet.data import augmentation, pipeline
    from keras_resnet.data.sources import open_source

    source = open_source(FLAGS.dataset, FLAGS.split, data_dir=FLAGS.data_dir)
    count = min(FLAGS.batches, source.num_examples // FLAGS.batch_size)
    if not count:
        raise ValueError(
            "There are fewer images than a batch has: take a smaller --batch_size. "
            f"Received: {source.num_examples} images in {source.split}, --batch_size={FLAGS.batch_size}."
        )
    dataset = pipeline.evaluation(source, augmentation.evaluation(preprocessing), FLAGS.batch_size)
    return dataset.take(count).map(lambda images, labels, weights: images)


ANALYSES = {"cost": cost, "responses": responses, "curves": curves, "statistics": statistics}


def main(arguments):
    """Runs the analysis that is named first."""
    if len(arguments) < 3 or arguments[1] not in ANALYSES:
        raise app.UsageError(f"Say what of {', '.join(ANALYSES)}, and of which networks or logs.")
    ANALYSES[arguments[1]](arguments[2:])


if __name__ == "__main__":
    common.run(main, takes_arguments=True)
