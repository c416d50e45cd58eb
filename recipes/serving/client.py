"""Classifies files and folders of images on TensorFlow Serving, over REST or gRPC, or measures how fast it answers.

REST needs nothing but Python and absl-py; gRPC (`grpc://`) needs the extra `serving`.

  python recipes/serving/client.py --model=resnet50 photos/ cat.jpg
  python recipes/serving/client.py --target=grpc://127.0.0.1:8500 --model=resnet50 --label=stable --json photos/
  python recipes/serving/client.py --model=resnet50 --load --concurrency=8 --duration=30 photos/
"""

import dataclasses
import functools
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import quiet
from absl import app, flags
from classify import classify, find_images
from load import is_loopback, load_test
from transports import Model, RequestError, connect, with_retries

flags.DEFINE_string("target", "http://127.0.0.1:8501", "http://, https:// or grpc://, with host and port.")
flags.DEFINE_string("model", None, "Name of the network on the server.", required=True)
flags.DEFINE_integer("version", None, "Its version. Default: the newest one.")
flags.DEFINE_string("label", None, "A version's label, such as stable or canary.")
flags.DEFINE_string("signature", "serving_default", "A signature from encoded images to classes.")
flags.DEFINE_integer("batch_size", 16, "Images in one request.", lower_bound=1)
flags.DEFINE_integer("top", 5, "Classes to name, at most as many as were exported.", lower_bound=1)
flags.DEFINE_float("deadline", 30, "Seconds for a request with all its retries.", lower_bound=0.001)
flags.DEFINE_integer("retries", 5, "Further attempts while the server is unavailable.", lower_bound=0)
flags.DEFINE_boolean("json", False, "Print a JSON object on each line.")
flags.DEFINE_boolean("describe", False, "Print the signatures instead.")
flags.DEFINE_boolean("load", False, "Measure instead: send the images again and again, without retries.")
flags.DEFINE_integer("concurrency", 4, "With --load: requests under way at a time.", lower_bound=1)
flags.DEFINE_float("duration", 10, "With --load: seconds.", lower_bound=0.001)
flags.DEFINE_boolean("load_elsewhere", False, "Allow --load on a server that is not on this machine.")
FLAGS = flags.FLAGS


def report(result: dict) -> None:
    """Prints what the server says of an image."""
    if "error" in result:
        print(f"{result['image']}: {result['error']}", file=sys.stderr)
    if FLAGS.json:
        print(json.dumps(result, ensure_ascii=False), flush=True)
    elif "predictions" in result:
        lines = [f"  {entry['score']:7.2%}  {entry['name']}" for entry in result["predictions"]]
        print(result["image"], *lines, sep="\n", flush=True)


def measure(transport, paths: list[Path]) -> bool:
    """Prints what the load test says; whether all requests were answered."""
    images = [path.read_bytes() for path in paths]
    batches = [images[start : start + FLAGS.batch_size] for start in range(0, len(images), FLAGS.batch_size)]
    ask = functools.partial(transport.predict, timeout=FLAGS.deadline)
    measured = dataclasses.asdict(load_test(ask, batches, FLAGS.concurrency, FLAGS.duration))
    if FLAGS.json:
        print(json.dumps(measured))
    else:
        for name, value in measured.items():
            print(f"{name}: {value:.1f}" if isinstance(value, float) else f"{name}: {value}")
    return not measured["errors"]


def run(arguments: list[str]) -> bool:
    """Does what the flags say; whether all went well."""
    transport = connect(FLAGS.target, Model(FLAGS.model, FLAGS.version, FLAGS.label, FLAGS.signature))
    retry = functools.partial(with_retries, deadline=FLAGS.deadline, retries=FLAGS.retries)
    if FLAGS.describe:
        print(json.dumps(retry(transport.describe), indent=1))
        return True
    paths = find_images(arguments)
    if FLAGS.load:
        if not (FLAGS.load_elsewhere or is_loopback(FLAGS.target)):
            raise ValueError(
                "A load test is for a server of your own on this machine; --load_elsewhere insists. "
                f"Received: --target={FLAGS.target}."
            )
        return measure(transport, paths)

    def ask(images):
        return retry(lambda left: transport.predict(images, left))

    well = True
    for result in classify(ask, paths, FLAGS.batch_size, FLAGS.top):
        report(result)
        well &= "error" not in result
    return well


def main(arguments):
    """Exits with 1 where a file or a request failed."""
    try:
        with quiet.without_chatter():  # the messages of gRPC bring TensorFlow
            well = run(arguments[1:])
    except (ValueError, OSError, RequestError) as error:
        sys.exit(str(error))
    sys.exit(not well)


if __name__ == "__main__":
    app.run(main)
