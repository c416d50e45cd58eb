"""Makes of finished CIFAR-10 runs what this project ships: weights, logs, exported files, model cards.

  python recipes/publish.py runs/ResNet20 runs/Plain20 --hours=1.2,1.1 --commit=abc1234

Of each network NAME come keras_resnet/weights/cifar10/NAME.safetensors, results/cifar10/NAME/ and saved_models/name/.
It prints the rows for TRAINED in keras_resnet/weights/catalog.py; run it once more when they are there, for the cards.
"""

import hashlib
import json
import time
from pathlib import Path

import common
from absl import app, flags

flags.DEFINE_string("data_dir", None, "Where tfds keeps CIFAR-10.")
flags.DEFINE_list("hours", [], "For each run: the hours of one core that it took.")
flags.DEFINE_string("commit", None, "The commit of this repository that trained them.", required=True)
flags.DEFINE_bool("export", True, "Whether to export and to write model cards too.")
FLAGS = flags.FLAGS

_ROOT = Path(__file__).resolve().parent.parent
_WEIGHTS = _ROOT / "keras_resnet" / "weights" / "cifar10"
_RESULTS = _ROOT / "results" / "cifar10"
_SERVED = _ROOT / "saved_models"
_QUANTIZATIONS = ("none", "float16", "int8")

_CARD = """# {network}, trained on CIFAR-10

{text}
{parameters:,} parameters. Input: RGB, 32x32; the files take plain pixels from 0 to 255.

Test error: **{error:.2f} %** ({errors} of {images:,} images), measured by

<!-- not run: needs CIFAR-10 -->
```sh
python recipes/evaluate.py --model={network} --weights=cifar10 --dataset=cifar10 --split=test
```

## Files

{files}

`saved_model/` is the folder that TensorFlow Serving takes: encoded images in, classes by name out. Accuracy is on all
{images:,} test images; latency is of one image, on {hardware}.
"Same best class" and "largest difference" (of probabilities) compare a file with the network on 128 test images. int8
was calibrated on training images.

## Training

- Data: CIFAR-10's 50,000 training images (Krizhevsky 2009, no formal licence), as tfds prepares them. 73 of them, and
  20 of the test images, were only to be had as JPEG here, all others as the original pixels.
- Recipe: `{command}`
  at commit `{commit}`: {epochs:g} epochs of batches of {batch}, one cycle of the learning rate up to {rate},
  Nesterov momentum {momentum}, weight decay {decay}, {dtype}; 4 pixels of padding, random crop, flip. The
  paper trains 64,000 steps with three rates; this is its network with a shorter recipe.
- Seed {seed}, fixed before the run; the weights are those of its last step. The greatest rate was chosen on 45,000 and
  5,000 of the training images. The number of epochs was not: it was raised when the test error of a shorter run was
  known. [The project's README](../../README.md#results) lists every run.
- {hours:.1f} CPU hours, on {hardware}, {date}.
  The log: `results/cifar10/{network}/log.csv`.

## Errors by class

| class | errors of {each:,} | error % (95 % interval) |
|---|--:|--:|
{classes}

Most often confused: {confused}.

## Limits

It knows ten classes and answers with one of them whatever it is shown. It has seen 32x32 thumbnails only: larger
photographs are scaled down to that. This is one seed; the paper's five runs of ResNet-110 differ by 0.16 %. CIFAR-10
was taken from "80 Million Tiny Images", which its authors have withdrawn, and its test set holds near-duplicates of
training images (Barz and Denzler 2020), so the error on new pictures is higher.
"""
_TEXTS = {
    "ResNet": "A residual network of He et al. 2015, section 4.2, with parameter-free shortcuts (option A).",
    "Plain": "The plain counterpart of a residual network of He et al. 2015, section 4.2: it has no shortcuts.",
}
_ROW = """    _cifar10(
        "{network}",
        "{sha256}",
        errors={errors},
        epochs={epochs},
        commit="{commit}",
        hours={hours},
        date="{date}",
    ),"""


def main(arguments):
    """Publishes each run."""
    runs = [Path(argument) for argument in arguments[1:]]
    if not runs or len(FLAGS.hours) != len(runs):
        raise app.UsageError("Name the folders of runs, and for each its --hours.")
    for run, hours in zip(runs, FLAGS.hours):
        publish(run, float(hours))
    if FLAGS.export:
        write_served()


def publish(run: Path, hours: float) -> None:
    """Publishes a run."""
    import keras_resnet
    from keras_resnet.cards import open_model
    from keras_resnet.classifiers import open_classifier
    from keras_resnet.data.sources import open_source
    from keras_resnet.evaluation import evaluate
    from keras_resnet.export.run import export

    config = json.loads((run / "config.json").read_text())
    network = config["model"]
    weights = _WEIGHTS / f"{network}.safetensors"
    weights.parent.mkdir(exist_ok=True)
    keras_resnet.weights.save(keras_resnet.load_model(run / "model.keras", compile=False), weights)
    _RESULTS.joinpath(network).mkdir(parents=True, exist_ok=True)
    _RESULTS.joinpath(network, "log.csv").write_text((run / "log.csv").read_text())
    config["data_dir"] = None  # of this machine
    _RESULTS.joinpath(network, "config.json").write_text(json.dumps(config, indent=1) + "\n")

    test, training = (open_source("cifar10", split, data_dir=FLAGS.data_dir) for split in ("test", "train"))
    opened = {"weights": weights, "preprocessing": "cifar10"}
    result = evaluate(open_classifier(network, **opened), test, progress=True)
    facts = {
        "network": network,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "errors": result.count - result.correct,
        "epochs": round(config["epochs"]),
        "commit": FLAGS.commit,
        "hours": hours,
        "date": time.strftime("%Y-%m-%d", time.gmtime((run / "model.keras").stat().st_mtime)),
    }
    print(_ROW.format(**facts))
    row = next((row for row in keras_resnet.weights.list(network) if row.tag == "cifar10"), None)
    if FLAGS.export and row is not None:
        model, card = open_model(network, input_shape=(32, 32, 3), **opened)
        folder = _SERVED / network.lower()
        about = {"network": network, "data": "cifar10, test", "commit": FLAGS.commit}
        rows = export(model, card, folder, quantize=_QUANTIZATIONS, training=training, evaluation=test, about=about)
        folder.joinpath("README.md").write_text(model_card(row, config, model, result, rows), "utf-8")


def model_card(row, config: dict, model, result, files: list[dict]) -> str:
    """The text of a model card."""
    from keras_resnet import analysis
    from keras_resnet.export.report import markdown
    from keras_resnet.reports import confused_pairs, per_class

    classes = [
        f"| {name} | {count - right} | {100 - 100 * share:.1f} ({100 - 100 * high:.1f} to {100 - 100 * low:.1f}) |"
        for name, count, right, share, low, high in per_class(result)
    ]
    pairs = [f"{name} taken for {other} ({times})" for name, other, times, _ in confused_pairs(result, 3)]
    return _CARD.format(
        **{name: getattr(row, name) for name in ("network", "images", "command", "seed", "commit", "hours", "date")},
        text=next(text for prefix, text in _TEXTS.items() if row.network.startswith(prefix)),
        parameters=analysis.cost(model).parameters,
        errors=result.count - result.correct,
        error=100 - 100 * result.correct / result.count,
        hardware=row.hardware,
        files=markdown(files),
        epochs=config["epochs"],
        batch=config["batch_size"],
        rate=config["learning_rate"],
        momentum=config["momentum"],
        decay=config["weight_decay"],
        dtype=config["dtype"],
        each=result.count // len(result.class_names),
        classes="\n".join(classes),
        confused=", ".join(pairs),
    )


def write_served() -> None:
    """Writes the list of what lies in saved_models, as TensorFlow Serving reads it."""
    blocks = [
        f'  config {{\n    name: "{folder.parent.name}"\n    base_path: "/models/{folder.parent.name}/saved_model"\n'
        '    model_platform: "tensorflow"\n  }\n'
        for folder in sorted(_SERVED.glob("*/saved_model"))
    ]
    about = "# For tensorflow_model_server --model_config_file, where this folder is /models.\n"
    _SERVED.joinpath("models.config").write_text(about + "model_config_list {\n" + "".join(blocks) + "}\n")


if __name__ == "__main__":
    common.run(main, takes_arguments=True)
