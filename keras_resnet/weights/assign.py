"""From a file's arrays to a model's variables, all of them or none; and back."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import keras
import numpy as np

from keras_resnet.weights.names import LAYOUTS, Layout, layer_name, to_keras_axes, to_torch_axes

_EPSILON = 1e-5  # of our batch norms
HEAD = "predictions"


class Source(NamedTuple):
    """Where a variable of ours comes from: an array, what is subtracted from it, and what it is divided by."""

    variable: keras.Variable
    name: str
    minus: str | None
    divisor: str | None


def sources(model: keras.Model, layout: Layout) -> Iterator[Source]:
    """Each variable of a model and its names in a layout."""
    for layer in layers_with_weights(model.layers):
        for variable in layer.weights:
            if variable.name not in layout.variables:  # the state of a random generator
                continue
            theirs = layer_name(layer.name, layout) or layer.name
            minus = divisor = None
            if variable.name == "moving_mean" and layout.biases:
                minus = (layer_name(layer.name.replace("_bn", "_conv"), layout) or "") + layout.variables["bias"]
            if variable.name.startswith("moving") and layout.divisor:
                divisor = theirs + layout.divisor
            if variable.name in ("gamma", "beta") and layout.scale_layers:
                theirs = theirs.replace(*layout.scale_layers, 1)
            yield Source(variable, theirs + layout.variables[variable.name], minus, divisor)


def layers_with_weights(layers: Iterable[keras.Layer]) -> Iterator[keras.Layer]:
    """The layers that own variables, nested models' too, in the order of the graph."""
    for layer in layers:
        if isinstance(layer, keras.Model):
            yield from layers_with_weights(layer.layers)
        elif layer.weights:
            yield layer


def assign(model: keras.Model, arrays: Mapping[str, np.ndarray], layout: Layout, head: bool = True) -> None:
    """Gives a model the weights of a source; where anything does not fit, it says what and leaves the model as it was.

    Args:
        model: a model of this package.
        arrays: the source's arrays by the source's names.
        layout: how the source names them.
        head: whether the classifier is loaded too. If not, the model's own stays as it is.

    Example:
    >>> model, layout = keras_resnet.ResNet18(), LAYOUTS["torchvision"]
    >>> assign(model, collect(model, layout), layout)
    """
    check_requirements(model, layout)
    arrays = _without_prefix(arrays, layout)
    values, used, problems = [], set(), {"missing": [], "unexpected": [], "of another shape": []}
    for source in sources(model, layout):
        if not head and source.variable.path.startswith(HEAD + "/"):
            continue
        needed = [name for name in source[1:] if name]
        used.update(needed)
        absent = [name for name in needed if name not in arrays]
        problems["missing"] += absent
        if absent:
            continue
        value = _value(source, arrays, layout)
        if value.shape != tuple(source.variable.shape):
            shapes = f"{arrays[source.name].shape} for {tuple(source.variable.shape)}"
            problems["of another shape"].append(f"{source.name} {shapes}")
        values.append((source.variable, value))
    ignored = re.compile("|".join(filter(None, (layout.ignored, None if head else _head_pattern(layout)))) or "(?!)")
    problems["unexpected"] = [name for name in arrays if name not in used and not ignored.fullmatch(name)]
    if any(problems.values()):
        raise ValueError(
            f"These weights do not fit the model {model.name!r}: {_summary(problems)}. Nothing was loaded."
        )
    for variable, value in values:
        variable.assign(value)


def _value(source: Source, arrays: Mapping[str, np.ndarray], layout: Layout) -> np.ndarray:
    """One variable's value: (x + b) - m = x - (m - b), and v + e = (v + e - e') + e'."""
    value = np.asarray(arrays[source.name])
    if layout.torch_axes:
        value = to_keras_axes(value, len(source.variable.shape))
    if source.divisor:
        divisor = float(np.asarray(arrays[source.divisor]).reshape(-1)[0])
        value = value / divisor if divisor else value * 0.0  # Caffe's own rule for a batch norm that never ran
    if source.minus:
        value = value - arrays[source.minus]
    if source.variable.name == "moving_variance" and layout.epsilon != _EPSILON:
        value = value.astype("float64") + (layout.epsilon - _EPSILON)
    return value


def _head_pattern(layout: Layout) -> str:
    return re.escape(layer_name(HEAD, layout) or HEAD) + r"[./].*"


def _summary(problems: dict[str, list[str]], shown: int = 3) -> str:
    return "; ".join(
        f"{len(names)} {problem} ({', '.join(names[:shown])}{', ...' if len(names) > shown else ''})"
        for problem, names in problems.items()
        if names
    )


def check_requirements(model: keras.Model, layout: Layout) -> None:
    """Refuses a model whose settings are not the source's, where the shapes would not show it."""
    own = traits(model)
    for setting, value in layout.requires.items():
        if own.get(setting, value) != value:
            raise ValueError(
                f"Weights in this layout are for {setting}={value!r}: this model would load them and answer wrongly. "
                f"Received: {setting}={own[setting]!r}. Build it with {setting}={value!r}."
            )


def traits(model: keras.Model) -> dict[str, str]:
    """Settings of a model's architecture that its variables do not show, read off its graph."""
    operations = list(_operations(model))
    names = {operation.name: operation for operation in operations}
    found = {}
    if "stage2_block1_conv3" in names:
        found["stride_on"] = "1x1" if names["stage2_block1_conv1"].strides[0] == 2 else "3x3"
    channels = -1 if keras.config.image_data_format() == "channels_last" else 1
    pads = [operation.pad_width[channels] for operation in operations if type(operation).__name__ == "Pad"]
    pads = [pad for pad in pads if sum(pad)]
    if pads:
        found["zero_channels"] = "after" if pads[0][0] == 0 else "around"
    return found


def _operations(model: keras.Model) -> Iterator[keras.Operation]:
    for operation in model.operations:
        if isinstance(operation, keras.Model):
            yield from _operations(operation)
        else:
            yield operation


def _without_prefix(arrays: Mapping[str, np.ndarray], layout: Layout) -> dict[str, np.ndarray]:
    return {re.sub(f"^{layout.prefix}", "", name): array for name, array in arrays.items()}


def detect_layout(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> Layout:
    """The layout in which most of a model's variables are found among the names of a file."""

    def found(layout: Layout) -> int:
        names = _without_prefix(arrays, layout)
        return sum(source.name in names for source in sources(model, layout))

    best = max(LAYOUTS.values(), key=found)
    if not found(best):
        raise ValueError(
            f"No variable of the model {model.name!r} has a name in this file that any known layout "
            f"({', '.join(LAYOUTS)}) gives it. Received: {_summary({'names': sorted(arrays)})}."
        )
    return best


def collect(model: keras.Model, layout: Layout) -> dict[str, np.ndarray]:
    """A model's weights under the names of a layout: the way back of `assign`."""
    check_requirements(model, layout)
    if layout.biases or layout.divisor or layout.epsilon != _EPSILON:
        raise ValueError("Weights are not written in a layout that they would have to be recomputed for.")
    without = [layer.name for layer in layers_with_weights(model.layers) if layer_name(layer.name, layout) is None]
    if without:
        raise ValueError(f"This layout has no name for {_summary({'layers': without})} of the model {model.name!r}.")
    values = {source.name: keras.ops.convert_to_numpy(source.variable) for source in sources(model, layout)}
    if layout.torch_axes:
        return {name: to_torch_axes(value, layout.convolutional_head) for name, value in values.items()}
    return values
