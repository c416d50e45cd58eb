"""Parts of splits against what tfds makes of the same words."""

import pytest
from hypothesis import example, given, settings, strategies as st

from keras_resnet.data import splits

tfds = pytest.importorskip("tensorflow_datasets")

COUNTS = st.integers(1, 3000)
PERCENT = st.one_of(st.integers(-110, 110), st.decimals(-100, 100, places=1)).map("{}%".format)
ABSOLUTE = st.integers(-3100, 3100).map(str)
BOUNDS = st.one_of(*(st.tuples(st.none() | bound, st.none() | bound) for bound in (PERCENT, ABSOLUTE)))


def theirs(split, count):
    """The range tfds reads, or None where it reads nothing or refuses."""
    info = tfds.core.SplitInfo(
        name="train",
        shard_lengths=[count],
        num_bytes=0,
        filename_template=tfds.core.ShardedFileTemplate(
            data_dir="/data", dataset_name="set", filetype_suffix="tfrecord"
        ),
    )
    try:
        (absolute,) = tfds.core.ReadInstruction.from_spec(split).to_absolute({"train": info})
    except (ValueError, AssertionError):
        return None
    start, stop = absolute.from_ or 0, count if absolute.to is None else absolute.to
    return (start, stop) if start < stop else None


@settings(max_examples=300, deadline=None)
@given(COUNTS, BOUNDS)
@example(50, ("33.3%", None))
@example(200, ("0.5%", "1.5%"))
@example(100, ("-99.5%", None))
def test_parts_are_those_of_tfds(count, ends):
    start, stop = ends
    if start is None and stop is None:
        return
    split = f"train[{start or ''}:{stop or ''}]"
    expected = theirs(split, count)
    if expected is None:
        with pytest.raises(ValueError, match="Received"):
            splits.parse(split)[1](count)
    else:
        assert splits.parse(split)[1](count) == expected


@given(COUNTS.filter(lambda count: count > 1), st.integers(1, 99))
def test_parts_that_meet_share_nothing_and_leave_nothing_out(count, percent):
    cut = round(percent * count / 100)
    if 0 < cut < count:
        assert splits.parse(f"train[:{percent}%]")[1](count) == (0, cut)
        assert splits.parse(f"train[{percent}%:]")[1](count) == (cut, count)


def test_a_name_alone_is_the_whole_split():
    name, bounds = splits.parse("validation")
    assert (name, bounds(7)) == ("validation", (0, 7))


NONSENSE = ["", "train[", "train[]", "train[5]", "train[:1.5]", "train[10%:500]", "train[a:]", "train[:101%]"]


@pytest.mark.parametrize("split", [*NONSENSE, "[:5]", "train[:5]x"])
def test_nonsense_is_refused(split):
    with pytest.raises(ValueError, match=r"one unit.*Received: split="):
        splits.parse(split)


@pytest.mark.parametrize(
    ("wanted", "available", "found"),
    [
        ("train", ["train", "val"], "train"),
        ("validation", ["train", "val"], "val"),
        ("validation", ["train", "test"], "test"),
        ("validation", ["train", "test", "val"], "val"),
        ("test", ["train", "test", "validation"], "test"),
        ("test", ["train", "validation"], "validation"),
        ("train", ["Training", "Val"], "Training"),
        ("val", ["train", "Validation"], "Validation"),
        ("unlabeled", ["train", "unlabeled"], "unlabeled"),
    ],
)
def test_names_stand_for_one_another(wanted, available, found):
    assert splits.find(wanted, available) == found


def test_a_missing_split_is_told_with_those_there_are():
    with pytest.raises(ValueError, match=r"\['train'\].*'train\[90%:\]'.*Received: split='validation'"):
        splits.find("validation", ["train"])
    with pytest.raises(ValueError, match=r"\['test', 'train'\]\. Received"):
        splits.find("train+test", ["train", "test"])
