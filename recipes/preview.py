"""Writes a contact sheet of what a stack does to pictures: a row for each, the picture first, then some draws.

python recipes/preview.py --stack=paper photos/roses --output=sheet.png
python recipes/preview.py --stack=modern demo
"""

from pathlib import Path

import common
from absl import app, flags

_NAMES = ["paper", "cifar", "inception", "modern", "evaluation"]
_STACK = flags.DEFINE_enum("stack", "paper", _NAMES, "Which augmentation.")
_OUTPUT = flags.DEFINE_string("output", "preview.png", "The PNG file to write.")
_ROWS = flags.DEFINE_integer("rows", 6, "At most so many pictures.", lower_bound=1)
_COLUMNS = flags.DEFINE_integer("columns", 6, "Draws of each picture.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of the draws.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where tfds keeps prepared data.")


def pictures(names: list[str], count: int) -> list[bytes]:
    """Encoded images: of files, of folders of files, or of a source that `open_source` knows, evenly chosen."""
    from keras_resnet.data.folders import EXTENSIONS
    from keras_resnet.data.sources import open_source

    found = []
    for name in names:
        inside = [path for path in sorted(Path(name).glob("*")) if path.suffix.lower() in EXTENSIONS]
        if Path(name).is_file() or inside:
            found += [path.read_bytes() for path in _evenly(inside or [Path(name)], count)]
        else:
            source = open_source(name, "train", data_dir=_DATA_DIR.value)
            if not source.encoded:
                raise ValueError(f"These images are not encoded, and need no preview of decoding. Received: {name}.")
            found += [image.numpy() for image, _ in source.dataset().take(count)]
    return _evenly(found, count)


def _evenly(items: list, count: int) -> list:
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else items


def main(arguments: list[str]):
    """Makes the sheet."""
    if len(arguments) < 2:
        raise app.UsageError("Say which pictures: files, folders, or a data set such as demo.")
    import tensorflow as tf

    from keras_resnet.data import preview

    found = pictures(arguments[1:], _ROWS.value)
    try:
        sheet = preview.contact_sheet(found, preview.STACKS[_STACK.value](), _COLUMNS.value, _SEED.value)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(error.message) from error
    Path(_OUTPUT.value).write_bytes(tf.io.encode_png(sheet).numpy())
    print(f"{len(found)} pictures, {_COLUMNS.value} draws of each, by {_STACK.value}: {_OUTPUT.value}")


if __name__ == "__main__":
    common.run(main, takes_arguments=True)
