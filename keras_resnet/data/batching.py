"""The images of a batch through a function that may fail: what is bad is replaced, or named in an error.

TensorFlow's operations either give a result or end the run. Only a `tf.data.Dataset` can drop what fails. So each batch
is made by a small dataset, which is tried once for all rows; only if a row is missing then, a second one looks for
replacements row by row. For good images the first is all there is, at no measurable cost over mapping images outright.
"""

import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

BATCHES_AT_ONCE = 4  # Enough to keep threads busy where one batch ends and another begins; each takes memory.


def each(
    function: Callable[[tf.Tensor, tf.Tensor], Any],
    rows: range,
    replacements: int,
    names: Callable[[tf.Tensor], tf.Tensor],
    threads: int = tf.data.AUTOTUNE,
) -> tuple[tf.Tensor, Any]:
    """Makes some rows of a batch; a row that fails is made of the next example of the batch that does not.

    Which example that is depends on the batch alone, so a resumed run, and any worker, finds the same.

    Args:
        function: from the number of an example in the batch, and the row that it is to stand in, to an image (or more).
        rows: the rows to make: consecutive.
        replacements: how many examples the batch has to replace a bad one with: its size less 1, or 0 for none.
        names: from numbers of examples to their names, for the error if nothing is found.
        threads: how many rows are worked on at a time.

    Returns:
        Which example stands in each row, int64, and the batch of what `function` has made.

    Example:
    >>> images = tf.stack([tf.io.encode_png(tf.zeros((2, 2, 3), tf.uint8)), b"no image"])
    >>> taken, pixels = each(lambda i, row: tf.io.decode_png(images[i]), range(2), 1, tf.strings.as_string)
    >>> taken.numpy(), pixels.shape
    (array([0, 0]), TensorShape([2, 2, 2, 3]))
    """
    function = tf.function(function, autograph=False)  # traced once, though it is called in three places

    def wrapped(example):  # around the end of the batch
        return example % (1 + replacements) if replacements else example

    def attempt(example, row):
        return example, function(example, row)

    def refuse(row):
        told = ["Cannot be decoded, or does not fit the stack:", names(row[tf.newaxis])]
        with tf.control_dependencies([tf.Assert(False, told)]):
            return attempt(tf.identity(row), row)  # of the same type as what it stands for

    def search(row):
        others = tf.data.Dataset.range(row, row + 1 + replacements).map(lambda i: attempt(wrapped(i), row))
        found = others.ignore_errors().concatenate(tf.data.Dataset.from_tensors(row).map(refuse))
        return found.take(1).get_single_element()

    every_row = tf.data.Dataset.range(rows[0], rows[-1] + 1)
    threads = (os.cpu_count() or 1) if threads == tf.data.AUTOTUNE else threads
    at_once = every_row.map(lambda row: attempt(row, row), threads, deterministic=True).ignore_errors()
    one_by_one = every_row.map(search)
    batches = [rows_made.batch(len(rows), drop_remainder=True) for rows_made in (at_once, one_by_one)]
    return batches[0].concatenate(batches[1]).take(1).get_single_element()


def stop_if_many(
    dataset: tf.data.Dataset, allowed: float, num_examples: int, names: Callable, start: int = 0
) -> tf.data.Dataset:
    """Names and counts bad examples on the way, and stops the run where there are too many.

    Args:
        dataset: of pairs: what goes through, and the numbers of the bad examples of that batch (other rows: -1).
        allowed: the greatest share of bad examples, of all in the epochs that have begun.
        num_examples: examples in an epoch.
        names: from numbers of examples to their names.
        start: how many examples were seen before.

    Returns:
        A `tf.data.Dataset` of what goes through.

    Example:
    >>> pairs = tf.data.Dataset.from_tensors((tf.zeros(4), tf.constant([-1, 2, -1, -1], tf.int64)))
    >>> dataset = stop_if_many(pairs, 0.01, 1000, tf.strings.as_string)
    """

    def check(state, pair):
        made, bad = pair
        is_bad = bad >= 0
        seen, found = state[0] + tf.size(bad, tf.int64), state[1] + tf.math.count_nonzero(is_bad)

        def tell():
            told = ["Cannot be decoded, others take their place:", names(tf.boolean_mask(bad, is_bad))]
            told += ["So far (count, of examples):", found, seen - start]
            epochs = (seen - 1) // num_examples - start // num_examples + 1
            limit = allowed * tf.cast(epochs * num_examples, tf.float64)
            stop = f"Stopped: more than {allowed:.3g} of the examples are bad. Mend them, or raise the limit."
            with tf.control_dependencies([tf.print(*told)]):
                tf.debugging.Assert(tf.cast(found, tf.float64) <= limit, [stop, *told])
            return found

        return (seen, tf.cond(tf.reduce_any(is_bad), tell, lambda: found)), made

    return dataset.scan((tf.constant(start, tf.int64), tf.constant(0, tf.int64)), check)
