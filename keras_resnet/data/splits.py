"""Split names: `train`, `validation` under its several names, and parts of them such as `train[:90%]`."""

import re
from collections.abc import Callable, Collection

# Names that stand for one another, in the order in which they are tried after the name that was asked for.
SYNONYMS = (("train", "training"), ("validation", "val", "valid", "test", "testing"))
NAMES = frozenset(name for names in SYNONYMS for name in names)

_BOUND = r"-?(?:\d+|\d{1,2}(?:\.\d+)?%|100(?:\.0+)?%)"
_SPLIT = re.compile(rf"([^\[\]:]+)(?:\[({_BOUND})?:({_BOUND})?\])?")


class NoSuchSplit(ValueError):
    """The data has no split of this name."""


def parse(split: str) -> tuple[str, Callable[[int], tuple[int, int]]]:
    """Splits `train[:90%]` into the name of the split and a function that says which examples are meant.

    A part is a slice as tfds has it: bounds are counts or per cent (rounded to the nearest example), a negative bound
    counts from the end, and a missing bound is that end. Parts that meet, `[:90%]` and `[90%:]`, share no example and
    leave none out.

    Args:
        split: a split's name, with or without a part.

    Returns:
        The name, and a function from the number of examples in that split to `(start, stop)`.

    Example:
    >>> name, bounds = parse("train[90%:]")
    >>> name, bounds(50000)
    ('train', (45000, 50000))
    """
    match = _SPLIT.fullmatch(split)
    name, start, stop = match.groups() if match else (None, None, None)
    if not match or (start and stop and start.endswith("%") != stop.endswith("%")):
        raise ValueError(
            "A split is a name, or a name and a part of it with both bounds in one unit: 'train', 'train[:90%]', "
            f"'train[100:200]', 'train[-10%:]'. Received: split={split!r}."
        )

    def bounds(count: int) -> tuple[int, int]:
        first = _position(start, count) if start else 0
        last = _position(stop, count) if stop else count
        if not 0 <= first < last <= count:
            raise ValueError(
                f"This part of the split holds no example, or reaches beyond the {count} there are. "
                f"Received: split={split!r}."
            )
        return first, last

    return name, bounds


def find(wanted: str, available: Collection[str]) -> str:
    """Returns the one of the available names that a split is called by.

    Args:
        wanted: the name of a split, without a part.
        available: the names there are.

    Returns:
        The wanted name itself where it is there, or else the first of its synonyms that is.

    Raises:
        NoSuchSplit: if there is neither.

    Example:
    >>> find("validation", ["train", "val"])
    'val'
    """
    if wanted in available:
        return wanted
    by_lower_case = {name.lower(): name for name in sorted(available)}
    synonyms = [name for names in SYNONYMS if wanted.lower() in names for name in names]
    for name in (wanted.lower(), *synonyms):
        if name in by_lower_case:
            return by_lower_case[name]
    hint = f" A part of one can serve: '{min(available)}[90%:]'." if len(available) == 1 else ""
    raise NoSuchSplit(f"There is no such split; there are {sorted(available)}.{hint} Received: split={wanted!r}.")


def _position(bound: str, count: int) -> int:
    """The example a bound stands before."""
    position = round(float(bound[:-1]) * count / 100) if bound.endswith("%") else int(bound)
    return position + count if position < 0 else position
