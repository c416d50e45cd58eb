"""`python -m keras_resnet [PATTERN] [--markdown]`: the table of networks."""

import argparse

from keras_resnet import list_models
from keras_resnet.architectures import FAMILIES, Architecture, cost
from keras_resnet.weights.catalog import published

_COLUMNS = ("network", "parameters", "multiply-adds", "input", "weights")


def _row(name: str, architecture: Architecture) -> tuple[str, ...]:
    counted, size = cost(architecture), architecture.image_size
    tags = ", ".join(row.tag for row in published(name))
    return name, f"{counted.parameters:,}", f"{counted.multiply_adds / 1e6:,.1f} M", f"{size}x{size}", tags or "-"


def table(pattern: str = "*", markdown: bool = False) -> str:
    """The networks whose names match a pattern, by family, with what each one costs.

    Args:
        pattern: a shell pattern.
        markdown: whether to draw the table in Markdown.

    Returns:
        The table as text.

    Example:
    >>> "11,689,512" in table("resnet18")
    True
    """
    names = set(list_models(pattern))
    line = "| {} | {} | {} | {} | {} |".format if markdown else "  {:17} {:>12} {:>14} {:>9}  {}".format
    lines = [line(*_COLUMNS)] + (["|---|--:|--:|--:|---|"] if markdown else [])
    for family, rows in FAMILIES.items():
        chosen = [line(*_row(name, row)) for name, row in rows.items() if name in names]
        if chosen:
            lines += [line(f"**{family}**", "", "", "", "") if markdown else f"\n{family}", *chosen]
    return "\n".join(lines)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m keras_resnet",
        description="Prints the networks of keras_resnet: trainable parameters, and multiply-adds of the convolutions "
        "and the classifier at the network's own image size.",
        epilog="example: python -m keras_resnet 'resnet*d'",
    )
    parser.add_argument("pattern", nargs="?", default="*", help="a shell pattern of names (default: all)")
    parser.add_argument("--markdown", action="store_true", help="draw the table in Markdown")
    options = parser.parse_args()
    if not list_models(options.pattern):
        parser.error(f"no network has a name like {options.pattern!r}")
    print(table(options.pattern, options.markdown))


if __name__ == "__main__":
    main()
