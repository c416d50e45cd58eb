"""From a file's arrays to a model's variables: all of them or none."""

import re
from collections.abc import Iterable, Iterator, Mapping

import keras
import numpy as np

from keras_resnet.weights.names import Layout, layer_name, to_keras_axes

_EPSILON = 1e-5  # of our batch norms


def assign(model: keras.Model, arrays: Mapping[str, np.ndarray], layout: Layout) -> None:
    """Gives a model the weights of a source; where anything does not fit, it says what and leaves the model as it was.

    Args:
        model: a model of this package.
        arrays: the source's arrays by the source's names.
        layout: how the source names them.

    Example:
    >>> assign(keras_resnet.ResNet18(stride_on="3x3"), state_dict, LAYOUTS["torchvision"])
    """
    pairs, used, problems = [], set(), {"missing": [], "unexpected": [], "of another shape": []}
    for variable, name, extra in named_variables(model, layout):
        used |= {name, *extra}
        absent = [each for each in (name, *extra) if each not in arrays]
        problems["missing"] += absent
        if absent:
            continue
        value = np.asarray(arrays[name])
        value = to_keras_axes(value, len(variable.shape)) if layout.torch_axes else value
        if value.shape != tuple(variable.shape):
            problems["of another shape"].append(f"{name} {arrays[name].shape} for {tuple(variable.shape)}")
            continue
        pairs.append((variable, _folded(variable, value, [arrays[each] for each in extra], layout)))
    problems["unexpected"] = [name for name in arrays if name not in used and not re.fullmatch(layout.ignored, name)]
    if any(problems.values()):
        raise ValueError(
            f"These weights do not fit the model {model.name!r}: {_summary(problems)}. Nothing was loaded."
        )
    for variable, value in pairs:
        variable.assign(value)


def named_variables(model: keras.Model, layout: Layout) -> Iterator[tuple[keras.Variable, str, list[str]]]:
    """Each variable of a model, its name in a layout, and the names of the convolution biases that it takes in."""
    for layer in layers_with_weights(model.layers):
        theirs = layer_name(layer.name, layout)
        for variable in layer.weights:
            name = f"{theirs or layer.name}{layout.variables[variable.name]}"
            extra = []
            if layout.biases and variable.name == "moving_mean":
                convolution = layer_name(layer.name.replace("_bn", "_conv"), layout)
                extra = [f"{convolution}{layout.variables['bias']}"]
            yield variable, name, extra


def layers_with_weights(layers: Iterable[keras.Layer]) -> Iterator[keras.Layer]:
    """The layers that own variables, nested models' too, in the order of the graph."""
    for layer in layers:
        if isinstance(layer, keras.Model):
            yield from layers_with_weights(layer.layers)
        elif layer.weights:
            yield layer


def _folded(variable: keras.Variable, value: np.ndarray, biases: list[np.ndarray], layout: Layout) -> np.ndarray:
    """A statistic of a batch norm with what comes with it: (x + b) - m = x - (m - b), and v + e = (v + e - e') + e'."""
    if variable.name == "moving_mean":
        return value - sum(biases)
    if variable.name == "moving_variance" and layout.epsilon != _EPSILON:
        return (value.astype("float64") + (layout.epsilon - _EPSILON)).astype(value.dtype)
    return value


def _summary(problems: dict[str, list[str]], shown: int = 3) -> str:
    return "; ".join(
        f"{len(names)} {problem} ({', '.join(names[:shown])}{', ...' if len(names) > shown else ''})"
        for problem, names in problems.items()
        if names
    )
