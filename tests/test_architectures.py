"""The table against the papers' counts, and what it refuses."""

import dataclasses
import json
from pathlib import Path

import pytest

from keras_resnet.architectures import FAMILIES, NAMED, Architecture, cifar, cost, nearest, normalized

pytestmark = pytest.mark.lower_house
ORACLES = json.loads((Path(__file__).parent / "golden" / "oracles.json").read_text())
ROWS = {normalized(name): row for name, row in NAMED.items()}
OPTIONS = {"A": "identity", "B": "projection", "C": "all"}


def oracle_rows():
    for name, oracle in ORACLES["imagenet"].items():
        network, _, option = name.partition("_")
        row = ROWS[network]
        yield name, dataclasses.replace(row, shortcut=OPTIONS[option]) if option else row, oracle
    for name, oracle in ORACLES["cifar10_option_A"].items():
        yield name, ROWS[name], oracle


@pytest.mark.parametrize(("row", "oracle"), [pytest.param(row, oracle, id=name) for name, row, oracle in oracle_rows()])
def test_counts_are_the_papers_to_the_digit(row, oracle):
    counted = cost(row)
    assert (counted.parameters, counted.parameters + counted.statistics) == (oracle["trainable"], oracle["total"])
    v15 = cost(dataclasses.replace(row, stride_on="3x3"))
    scales = {"gmac_v1": (counted, 1e9), "gmac_v1_5": (v15, 1e9), "mmac": (counted, 1e6)}
    for key in scales.keys() & oracle.keys():
        count, unit = scales[key]
        digits = len(str(oracle[key]).partition(".")[2])
        assert round(count.multiply_adds / unit, digits or None) == oracle[key]


# Millions of parameters as published. The Model Garden counts the moving statistics too.
PUBLISHED = {
    "ResNet110V2": (1.7, "parameters"),  # He et al. 2016, table 4
    "ResNet164V2": (1.7, "parameters"),
    "ResNet1001V2": (10.3, "parameters"),  # its table 4 says 10.2M
    "WideResNet28_10": (36.5, "parameters"),  # Zagoruyko and Komodakis 2016, table 4
    "ResNetRS50": (35.7, "total"),  # TensorFlow Model Garden, official/vision/MODEL_GARDEN.md
    "ResNetRS101": (63.7, "total"),
    "ResNetRS152": (86.8, "total"),
}


@pytest.mark.parametrize("network", PUBLISHED)
def test_counts_are_those_published(network):
    millions, what = PUBLISHED[network]
    counted = cost(NAMED[network])
    assert round((counted.parameters + (counted.statistics if what == "total" else 0)) / 1e6, 1) == millions


def test_every_network_is_in_one_family():
    assert sum(len(family) for family in FAMILIES.values()) == len(NAMED) >= 40


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"block": "bottelneck"}, "Did you mean 'bottleneck'"),
        ({"shortcut": "B"}, "'projection'"),
        ({"depths": (2, 2)}, "equally long"),
        ({"depths": (2, 2, 0, 2)}, "whole numbers"),
        ({"depths": (2, 2.5, 2, 2)}, "whole numbers"),
        ({"groups": 32}, "bottleneck"),
        ({"block": "bottleneck", "groups": 2, "group_width": 0}, "group_width"),
        ({"block": "bottleneck", "group_width": 0.5}, "group_width"),
        ({"block": "bottleneck", "widths": (1, 2, 3, 4), "group_width": 4}, "no channel left"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"squeeze_excite": 2}, "squeeze_excite"),
        ({"shortcut": "none", "zero_init_residual": True}, "plain network"),
        ({"shortcut": "identity", "widths": (64, 32, 16, 8)}, "take channels away"),
    ],
)
def test_what_does_not_fit_is_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        Architecture(**{"depths": (2, 2, 2, 2)} | settings)
    assert "Received:" in str(error.value)


@pytest.mark.parametrize(
    ("depth", "settings", "near"), [(21, {}, "20 and 26"), (20, {"block": "bottleneck"}, "20 and 29")]
)
def test_cifar_depths(depth, settings, near):
    if (depth - 2) % (9 if settings else 6) == 0:
        assert sum(cifar(depth, **settings).depths) * (3 if settings else 2) + 2 == depth
        return
    with pytest.raises(ValueError, match=f"nearest depths are {near}"):
        cifar(depth, **settings)


@pytest.mark.parametrize(("word", "hint"), [("resnet5O", "'ResNet50'"), ("se_resnet50", "'SEResNet50'"), ("xyz", "")])
def test_nearest(word, hint):
    assert hint in nearest(word, NAMED)
    assert bool(nearest(word, NAMED)) == bool(hint)
