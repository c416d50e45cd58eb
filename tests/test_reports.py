"""What is written about an evaluation: intervals, classes, confusions, one row in a table."""

import csv
import math
import struct

import numpy as np
import pytest

from keras_resnet.reports import Result, append_row, confused_pairs, interval, per_class, write_report

CONFUSION = np.array([[8, 2, 0], [3, 6, 1], [0, 0, 0]])
RESULT = Result(("ant", "bee", "cow"), CONFUSION, in_top5=20, loss=0.5)


@pytest.mark.parametrize(("correct", "count"), [(0, 10), (10, 10), (1, 3), (9173, 10_000), (37_850, 50_000)])
def test_the_interval_is_where_the_normal_test_accepts(correct, count):
    """Wilson 1927: the bounds are the proportions p with |share - p| = z * sqrt(p * (1 - p) / n)."""
    for bound in interval(correct, count):
        if 0 < bound < 1:
            distance = abs(correct / count - bound)
            assert distance == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / count), rel=1e-6, abs=1e-7)
    low, high = interval(correct, count)
    assert 0 <= low <= correct / count <= high + 1e-12 <= 1 + 1e-12
    assert low < high


def test_the_numbers_come_from_the_confusion_matrix():
    summary = RESULT.summary()
    assert (summary["images"], summary["errors"], summary["top1"], summary["top5"]) == (20, 6, 0.7, 1.0)
    ant, bee, cow = per_class(RESULT)
    assert ant == ("ant", 10, 8, 0.8, *interval(8, 10))
    assert bee[1:4] == (10, 6, 0.6)
    assert math.isnan(cow[3])
    assert confused_pairs(RESULT) == [("bee", "ant", 3, 0.3), ("ant", "bee", 2, 0.2), ("bee", "cow", 1, 0.1)]
    assert confused_pairs(RESULT, most=1) == [("bee", "ant", 3, 0.3)]


def test_a_report_is_two_tables_and_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    write_report(RESULT, tmp_path / "new")
    with (tmp_path / "new" / "confused.csv").open(newline="") as file:
        assert next(csv.DictReader(file)) == {"class": "bee", "taken_for": "ant", "images": "3", "share": "0.3"}
    with (tmp_path / "new" / "per_class.csv").open(newline="") as file:
        assert [row["correct"] for row in csv.DictReader(file)] == ["8", "6", "0"]
    many = Result(tuple(map(str, range(200))), np.eye(200, dtype=int), 200, 0.1)
    write_report(many, tmp_path / "many")
    for folder in ("new", "many"):
        data = (tmp_path / folder / "confusion.png").read_bytes()
        assert min(struct.unpack(">II", data[16:24])) > 400


def test_rows_are_appended_and_other_columns_refused(tmp_path):
    path = tmp_path / "new" / "results.csv"
    for command in ("a b", 'with "quotes", and commas'):
        append_row(path, {"command": command, "top1": 0.5})
    with path.open(newline="") as file:
        assert [row["command"] for row in csv.DictReader(file)] == ["a b", 'with "quotes", and commas']
    with pytest.raises(ValueError, match="other columns"):
        append_row(path, {"command": "a", "top2": 0.5})
    assert len(path.read_text().splitlines()) == 3
