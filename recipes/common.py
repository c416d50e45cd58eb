"""What the recipes share: how they start, how a mistake is told, and the flags that say which trained network."""

import ast
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import quiet
from absl import app, flags, logging

FLAGS = flags.FLAGS
_NODE = re.compile(r"\{\{.*?\}\} *| *\[Op:\w+\]")  # where in its graph TensorFlow has met an error
flags.disclaim_key_flags()  # a recipe's --help has the flags that are defined here for it


def define_model_flags() -> None:
    """Defines --model and --weights, and the flags of `define_settings_flags`."""
    flags.DEFINE_string("model", None, "Name of a network, a .keras or .tflite file, or the folder of a SavedModel.")
    flags.DEFINE_string("weights", None, "For a name: the tag of published weights, or a file.")
    flags.mark_flag_as_required("model")
    define_settings_flags()


def define_settings_flags() -> None:
    """Defines --preprocessing and --set."""
    flags.DEFINE_string(
        "preprocessing", None, "What a file of weights takes for an image: torch, tf, caffe, torch_cifar ..."
    )
    flags.DEFINE_multi_string("set", [], "For a name: a setting, such as zero_channels=around; can be repeated.")


def chosen_model() -> dict[str, object]:
    """The flags as arguments of `keras_resnet.cards.open_model` and `keras_resnet.classifiers.open_classifier`."""
    return {"model": FLAGS.model, "weights": FLAGS.weights, "preprocessing": FLAGS.preprocessing, **settings()}


def settings() -> dict[str, object]:
    """What --set says: `key=value`; a value is a Python literal where it is one, and text where not."""
    pairs = [text.partition("=") for text in FLAGS.set]
    wrong = [key for key, sign, _ in pairs if not sign]
    if wrong:
        raise ValueError(f"A setting is written key=value. Received: --set={wrong[0]}.")
    return {key: literal(value) for key, _, value in pairs}


def serving_commands(served: Path, network: str) -> tuple[str, str]:
    """What serves the versions of a SavedModel in a folder, and what asks the server."""
    import tensorflow as tf

    volume = shlex.quote(f"{served.resolve()}:/models/{network}:ro")
    # A server reads what its own version has written. Not the distribution's version: it has other names too.
    image = f"tensorflow/serving:{tf.__version__}"
    return (
        f"docker run --rm -p 127.0.0.1:8501:8501 -v {volume} -e MODEL_NAME={network} {image}",
        f"python recipes/serving/client.py --model={network} PHOTOGRAPH.jpg",
    )


def run(main: Callable[[list[str]], int | None], takes_arguments: bool = False) -> None:
    """Runs a recipe; what a user has got wrong is told in one line, without a traceback (`--verbosity=1` has it).

    Args:
        main: what it does.
        takes_arguments: whether there may be others than flags.
    """

    def guarded(arguments):
        debugging = FLAGS.verbosity > 0
        if not debugging:
            logging.set_verbosity(logging.WARNING)
        try:
            if len(arguments) > 1 and not takes_arguments:
                raise ValueError(f"There are only flags here: --NAME=VALUE. Received: {' '.join(arguments[1:])}")
            with quiet.without_chatter():
                return main(arguments)
        except Exception as error:
            if debugging or not _is_told_in_a_line(error):
                raise
            print(f"{type(error).__name__}: {_NODE.sub('', str(error))}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopped.", file=sys.stderr)
            return 130

    app.run(guarded)


def _is_told_in_a_line(error: Exception) -> bool:
    """Whether a user can do something about it: wrong values and files, and what TensorFlow meets in the data."""
    of_tensorflow = type(error).__module__ == "tensorflow.python.framework.errors_impl"
    return of_tensorflow or isinstance(error, ValueError | TypeError | OSError | ImportError)


def literal(text: str) -> object:
    """What a text means as a Python literal; the text itself where it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
