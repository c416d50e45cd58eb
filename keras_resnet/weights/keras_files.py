"""Keras's weights files: HDF5 of two ages, alone or inside a `.keras` archive.

Nothing of Keras is asked and no model is built.
"""

import io
import json
import re
from collections import Counter
from typing import BinaryIO

import numpy as np

from keras_resnet.weights import hdf5
from keras_resnet.weights.bounds import MAX_INDEX, Archive, Budget, WeightsFileError

# Keys at the root for the state of training, which is not the network's.
_TRAINING = frozenset({"optimizer", "optimizer_weights", "metrics"})


def read_hdf5(file: BinaryIO, budget: Budget, layer_names: dict | None = None) -> dict[str, np.ndarray]:
    """Arrays of an HDF5 file that Keras wrote.

    Args:
        file: an open binary file.
        budget: what the arrays may take.
        layer_names: names of the layers by the path of their group, for files that do not say them.

    Returns:
        The arrays, named as `keras_resnet.weights.readers.read` says.
    """
    source = hdf5.File(file, budget)
    groups, arrays = source.survey(skip=_TRAINING)
    # `model.save` puts the weights a level deeper than `model.save_weights`, beside the optimizer's.
    roots = [path for path in ((), ("model_weights",)) if path in groups and _lists(groups[path], "layer_names")]
    if roots:
        names = _legacy_names(groups, [path for path in arrays if path[: len(roots[0])] == roots[0]], roots[0])
    else:
        names = _layered_names(groups, arrays, {**(layer_names or {}), **_own_names(source, groups)})
    if len(set(names.values())) < len(names):
        raise WeightsFileError("gives one name to two arrays; save the model with distinct layer names")
    budget.take(sum(map(len, names.values())), "the names")
    return {name: source.array(arrays[path], name) for path, name in names.items()}


def read_keras(archive: Archive, budget: Budget) -> dict[str, np.ndarray]:
    """Arrays of a `.keras` archive: its HDF5 member, with the layers' names from the configuration if need be."""
    config = json.loads(archive.read("config.json", limit=MAX_INDEX))
    return read_hdf5(io.BytesIO(archive.read("model.weights.h5")), budget, _names_in_config(config))


def _lists(group: hdf5.Object, what: str) -> bool:
    """Whether a group has the attribute `what`, which is cut into `what0`, `what1`, ... where it is long."""
    return what in group.attributes or f"{what}0" in group.attributes


def _legacy_names(groups: dict, paths: list, root: tuple) -> dict:
    """Names in the files of keras.applications and Keras 2: the path below the layer's own group, without ":0".

    That is what the attribute `weight_names` lists. A layer's group is the one that has this attribute: a layer's name
    may have slashes, so its depth does not tell.
    """
    layers = {path for path, group in groups.items() if _lists(group, "weight_names")}
    names, full = {}, {}
    for path in paths:
        layer = next((path[:i] for i in range(len(path)) if path[:i] in layers), root)
        names[path] = "/".join(path[len(layer) :]).removesuffix(":0")
        full[path] = "/".join(path[len(root) :]).removesuffix(":0")
        # Keras 3.0 to 3.2 wrote "kernel" where others write "conv/kernel", and Keras 1 "conv_W".
        if "/" not in names[path] and layer and not names[path].startswith(layer[-1]):
            names[path] = full[path]
    # Two nested models may both have a layer "conv": then the outer layer's name says which is which.
    counts = Counter(names.values())
    return {path: name if counts[name] == 1 else full[path] for path, name in names.items()}


def _layered_names(groups: dict, arrays: dict, layer_names: dict) -> dict:
    """Names in the files of Keras 3: the path, with the layers' own names in place of their groups' keys."""
    labels = {path: layer_names.get(path, path[-1]) for path in groups if path}
    # Siblings of one name, which subclassed models can have, keep their keys.
    counts = Counter((*path[:-1], label) for path, label in labels.items())
    labels = {path: label if counts[(*path[:-1], label)] == 1 else path[-1] for path, label in labels.items()}
    return {path: "/".join(labels.get(path[: i + 1], key) for i, key in enumerate(path)) for path in arrays}


def _own_names(source: hdf5.File, groups: dict) -> dict:
    """The layers' names by the path of their group, where the file says them.

    Keras keys the groups by class and number (`conv2d_7`), and keeps the layer's name as an attribute of its `vars`.
    """
    named = {path[:-1]: group.attributes["name"] for path, group in groups.items() if _is_named_vars(path, group)}
    texts = {path: source.text(attribute) for path, attribute in named.items()}
    return {path: text for path, text in texts.items() if text}


def _is_named_vars(path: tuple, group: hdf5.Object) -> bool:
    return path[-1:] == ("vars",) and "name" in group.attributes


def _names_in_config(config: dict) -> dict:
    """The layers' names by the path of their group, worked out from a model's configuration.

    Keras numbers the layers of one class within one model, in their order: the third Conv2D is `conv2d_2`.
    """
    names = {}
    # Keras 2.12 and 2.13 had another key for the same list.
    pending = [((key,), config["config"]) for key in ("layers", "_layer_checkpoint_dependencies")]
    for path, model in pending:  # which grows as nested models are found
        if len(path) > hdf5.MAX_DEPTH:
            raise WeightsFileError("nests its models too deep in config.json; save the weights again")
        numbers = Counter()
        for layer in model.get("layers", []):
            if str(layer.get("module")).startswith(("keras.src.ops", "keras.ops")):
                continue  # a function in the graph, not a layer
            kind = _snake_case(layer["class_name"])
            key = f"{kind}_{numbers[kind]}" if numbers[kind] else kind
            numbers[kind] += 1
            names[(*path, key)] = layer["config"]["name"]
            if "layers" in layer["config"]:
                pending.append(((*path, key, path[0]), layer["config"]))
    return names


def _snake_case(name: str) -> str:
    """`BatchNormalization` as `batch_normalization`, `Conv2D` as `conv2d`: the keys that Keras gives to groups."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name).lower()
