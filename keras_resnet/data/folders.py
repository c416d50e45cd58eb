"""A folder of folders: one folder for each class, with its images, and perhaps a folder for each split above them."""

import hashlib

import numpy as np

from keras_resnet.data import files, splits
from keras_resnet.data.storage import Source, Table

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


def open_folder(path: str, split: str) -> Source:
    """Opens a folder of images in one of two layouts: `train/cat/1.jpg`, or `cat/1.jpg`, which has only "train".

    Classes are the names of the folders, sorted; images may lie deeper in them. The examples of a split stand in an
    order that is mixed but fixed, a function of their names: each part of a split, such as "train[:90%]", has something
    of every class, and a file added later leaves the order of the others as it was.

    Args:
        path: the folder, local or with a scheme.
        split: the name of a split, without a part.

    Returns:
        A `Source` whose images are encoded.

    Example:
    >>> open_folder("flowers", "train")  # doctest: +SKIP
    Source(name='flowers', split='train', encoded=True)
    """
    layout = _split_folders(path) or {"train": path}
    split = splits.find(split, layout)
    class_names = _class_names(layout, split)
    folder = layout[split]
    names = sorted(filter(_is_image, files.walk(folder)), key=_mixed)
    labels = {name: label for label, name in enumerate(class_names)}
    rows = [(files.join(folder, name), labels[name.split("/")[0]]) for name in names if "/" in name]
    if not rows:
        raise ValueError(f"There are no images ({', '.join(EXTENSIONS)}) in the class folders. Received: {folder}.")
    paths, labels = zip(*rows)
    return Source(path, split, class_names, Table(np.array(paths, object), np.array(labels, np.int64), are_paths=True))


def _split_folders(path: str) -> dict[str, str]:
    """The folders of the splits, by their names; none where the folders are classes, whatever they are called."""
    _, folders = files.listing(path)
    found = {name: files.join(path, name) for name in folders if name.lower() in splits.NAMES}
    have_classes = any(files.listing(folder)[1] for folder in found.values())
    return found if have_classes or len(found) == len(folders) else {}


def _class_names(layout: dict[str, str], split: str) -> tuple[str, ...]:
    """The classes of a split, which all splits that have classes must agree on."""
    classes = {name: files.listing(folder)[1] for name, folder in layout.items()}
    if not classes[split]:
        raise ValueError(
            "An image's class is the name of the folder that it is in, and there is no folder here. "
            f"Received: {layout[split]}."
        )
    for other, names in classes.items():
        if names and names != classes[split]:
            raise ValueError(
                "The splits must have the same classes; an empty folder does for a class without images. "
                f"Received: only in {split!r}: {sorted(set(classes[split]) - set(names))}, "
                f"only in {other!r}: {sorted(set(names) - set(classes[split]))}, of {layout[split]}."
            )
    return tuple(classes[split])


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _mixed(name: str) -> bytes:
    """A sorting key that mixes names, always in the same way."""
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
