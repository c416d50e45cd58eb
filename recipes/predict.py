"""Names what is in pictures: the five most probable classes of each file, and of each file in a folder.

For example:

  python recipes/predict.py cat.jpg photos/ --model=ResNet50 --weights=imagenet
  python recipes/predict.py cat.jpg --model=runs/photos/model.keras --json --explain=maps/
"""

import json
import sys
from pathlib import Path

import common
from absl import app, flags

common.define_model_flags()
flags.DEFINE_integer("top", 5, "How many classes are named.", lower_bound=1)
flags.DEFINE_bool("json", False, "Print a JSON object a line.")
flags.DEFINE_string("explain", None, "Folder for pictures of where the network sees the class.")
FLAGS = flags.FLAGS


def main(arguments):
    """Predicts; returns 1 if a picture could not be read."""
    from tqdm import tqdm

    from keras_resnet.cards import numbered
    from keras_resnet.classifiers import classify_image, open_classifier
    from keras_resnet.preprocessing import decode_predictions

    paths = [path for argument in arguments[1:] for path in pictures(Path(argument))]
    if not paths:
        raise app.UsageError("Give pictures, or folders with pictures.")
    classifier = open_classifier(**common.chosen_model())
    if FLAGS.explain and classifier.model is None:
        raise ValueError(f"--explain needs a network's layers: a .keras file or a name. Received: {FLAGS.model}.")
    failed = False
    is_hidden = sys.stdout.isatty() or not sys.stderr.isatty() or len(paths) < 20  # beside what is written to a file
    for number, path in enumerate(tqdm(paths, unit=" pictures", disable=is_hidden)):
        try:
            encoded = path.read_bytes()
            scores = classify_image(classifier, encoded)
        except (ValueError, OSError) as error:
            failed = True
            report_failure(path, error)
            continue
        names = classifier.class_names or numbered(len(scores))
        (best,) = decode_predictions(scores[None], min(FLAGS.top, len(scores)), names)
        report(path, best)
        if FLAGS.explain:
            target = Path(FLAGS.explain) / f"{number:04}-{path.stem}.png"
            explain(classifier, encoded, best[0], target)
    return int(failed)


def pictures(path: Path) -> list[Path]:
    """The path itself, or the pictures below it."""
    from keras_resnet.data.folders import EXTENSIONS

    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS)


def report(path: Path, best: list[tuple[str, str, float]]) -> None:
    """Prints what was seen in a picture."""
    if FLAGS.json:
        rows = [{"class": int(number), "name": name, "score": round(score, 6)} for number, name, score in best]
        print(json.dumps({"image": str(path), "predictions": rows}, ensure_ascii=False))
    else:
        print(path, *(f"  {score:7.2%}  {name}" for _, name, score in best), sep="\n")


def report_failure(path: Path, error: Exception) -> None:
    """Prints what is wrong with a picture."""
    print(f"{path}: {error}", file=sys.stderr)
    if FLAGS.json:
        print(json.dumps({"image": str(path), "error": str(error)}, ensure_ascii=False))


def explain(classifier, encoded: bytes, best: tuple[str, str, float], path: Path) -> None:
    """Writes the class activation map of the most probable class over the picture."""
    from keras_resnet.analysis import class_activation_map, plot_explanation
    from keras_resnet.data.augmentation import apply, for_device

    number, name, score = best
    seen, _ = for_device(classifier.stack)
    images = apply(classifier.stack, encoded)[None]
    (activation,) = class_activation_map(classifier.model, images, [int(number)])
    plot_explanation(apply(seen, encoded).numpy(), activation, f"{name}, {100 * score:.1f} %", path)


if __name__ == "__main__":
    common.run(main, takes_arguments=True)
