"""Stacks: distributions against their definitions, reproducibility, colours and mixing against numpy."""

import math
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from keras_resnet import Preprocessing, preprocess_input
from keras_resnet.data import augmentation, draws
from keras_resnet.data.augmentation import (
    CenterCrop,
    ColorAugmentation,
    ColorJitter,
    CutMix,
    Either,
    InceptionCrop,
    MixUp,
    Normalize,
    Pad,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomFlip,
    Resize,
    ScaleJitter,
    SubtractMean,
    TenCrops,
    ToUint8,
    apply,
    example_keys,
    for_device,
    mean_image,
    normalization,
    split,
)
from keras_resnet.data.geometry import random_box
from keras_resnet.data.mixing import weights_and_partners
from keras_resnet.data.windows import View

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "photos"
RANDOM = np.random.default_rng(0)
BATCH = RANDOM.integers(0, 256, (16, 32, 32, 3), dtype="uint8")


def keys(count, seed=1, epoch=0):
    return example_keys(seed, epoch, tf.range(count))


def photographs(count=12):
    """Encoded photographs of several sizes, where there are none, noise."""
    found = sorted(PHOTOS.rglob("*.jpg"))[:: max(1, len(list(PHOTOS.rglob("*.jpg"))) // count)][:count]
    if found:
        return [path.read_bytes() for path in found]
    sizes = RANDOM.integers(200, 600, (count, 2))
    coarse = [tf.image.resize(RANDOM.uniform(0, 255, (20, 20, 3)), size) for size in sizes]
    return [tf.io.encode_jpeg(tf.cast(image, tf.uint8)).numpy() for image in coarse]


def chi_square(counts, expected=None):
    """Pearson's statistic in standard deviations from its mean: a standard normal number, nearly."""
    counts = np.asarray(counts, float)
    expected = np.full(len(counts), counts.sum() / len(counts)) if expected is None else expected
    freedom = len(counts) - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom)


def kolmogorov_smirnov(sample, distribution):
    """The greatest distance between the sample's distribution and the definition's, by sqrt(n): 1.95 is 1 in 1000."""
    ordered = np.sort(sample)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    defined = distribution(ordered)
    return max(np.abs(defined - steps[:-1]).max(), np.abs(defined - steps[1:]).max()) * math.sqrt(len(ordered))


# The numbers


def test_the_generator_is_splitmix64():
    """The sequence from the seed 1234567 is the one that the generator's other implementations are tested with."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert draws.bits(tf.constant(1234567, tf.uint64), 5).numpy().tolist() == expected


def test_keys_differ():
    seen = [example_keys(seed, epoch, tf.range(1000)).numpy() for seed in (0, 1, -1) for epoch in range(20)]
    assert len(np.unique(seen)) == 60_000
    np.testing.assert_array_equal(example_keys(3, 4, 5), example_keys(3, tf.constant(4), tf.constant([5, 6]))[0])


def test_draws_are_uniform_over_examples_and_epochs():
    for sample in (
        draws.uniform(keys(40_000), 1)[:, 0],
        draws.uniform(example_keys(1, tf.range(40_000), 7), 1)[:, 0],
        draws.uniform(keys(1)[0], 40_000),
    ):
        sample = sample.numpy()
        assert sample.min() >= 0
        assert sample.max() < 1
        assert kolmogorov_smirnov(sample, lambda x: x) < 1.95
        assert abs(np.corrcoef(sample[1:], sample[:-1])[0, 1]) < 0.02


def test_normal_numbers():
    sample = draws.normal(keys(20_000), 2).numpy()
    cumulative = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))
    assert kolmogorov_smirnov(sample[:, 0], cumulative) < 1.95
    assert abs(np.corrcoef(sample.T)[0, 1]) < 0.03
    extreme = tf.constant([2**64 - 1, 0], tf.uint64)  # what the mixing function may give at worst
    steps = tf.cast(tf.bitwise.right_shift(extreme, tf.constant(41, tf.uint64)), tf.float32)
    assert np.all(np.isfinite(tf.math.ndtri((steps + 0.5) * 2.0**-23)))


def test_one_key_and_many():
    many = keys(5)
    for draw in (lambda k: draws.uniform(k, 3), lambda k: draws.normal(k, 3), lambda k: draws.integers(k, [5, 9])):
        # the last bit of a vectorised function may depend on the length of the vector
        np.testing.assert_allclose(draw(many), [draw(key) for key in many], rtol=3e-7)


# The distributions of the parts


def views(part, size, count, field):
    @tf.function
    def see(all_keys):
        return tf.map_fn(
            lambda key: getattr(part.view(View(tf.constant(size)), key), field), all_keys, fn_output_signature=tf.int32
        )

    return see(keys(count)).numpy()


def test_scale_jitter_is_uniform_over_the_integers():
    sizes = views(ScaleJitter(256, 480), (375, 500), 22_500, "size")
    assert (sizes[:, 0].min(), sizes[:, 0].max()) == (256, 480)
    assert abs(chi_square(np.bincount(sizes[:, 0] - 256, minlength=225))) < 3
    np.testing.assert_array_equal(sizes[:, 1], sizes[:, 0] * 500 // 375)
    portrait = views(ScaleJitter(256, 480), (501, 333), 300, "size")
    np.testing.assert_array_equal(portrait[:, 0], [int(side * 501 / 333) for side in portrait[:, 1]])


def test_crops_are_uniform_over_the_integers():
    corners = views(RandomCrop((30, 20)), (40, 35), 17_600, "corner")
    table = np.bincount(corners[:, 0] * 16 + corners[:, 1], minlength=11 * 16)
    assert len(table) == 11 * 16
    assert abs(chi_square(table)) < 3


def test_scale_and_place_are_independent():
    all_keys = keys(8000)
    shorter = draws.integers(ScaleJitter().own(all_keys), [4])[:, 0].numpy()
    place = draws.integers(RandomCrop(224).own(all_keys), [4, 4]).numpy()
    mirror = (draws.uniform(RandomFlip().own(all_keys), 1)[:, 0] < 0.5).numpy()
    assert abs(chi_square(np.bincount(shorter * 32 + place[:, 0] * 8 + place[:, 1] * 2 + mirror, minlength=128))) < 3


def test_flips():
    images = tf.reshape(tf.range(2 * 5000) % 2, (5000, 1, 2, 1))
    for rate in (0.0, 0.3, 0.5, 1.0):
        mirrored = apply((RandomFlip(rate),), images, keys(5000))[:, 0, 0, 0].numpy()
        assert abs(mirrored.mean() - rate) <= 3 * math.sqrt(rate * (1 - rate) / 5000)


def test_inception_crop():
    height, width = 300, 400
    fits, boxes = random_box(keys(20_000), tf.constant([height, width]), (0.08, 1.0), (3 / 4, 4 / 3))
    top, left, high, wide = boxes.numpy()[fits.numpy()].T
    assert fits.numpy().mean() > 0.99
    assert np.all((top >= 0) & (left >= 0) & (top + high <= height) & (left + wide <= width))
    area = high * wide / (height * width)
    small = area[area < 0.4]  # what is that small always fits, so nothing has been rejected there
    assert kolmogorov_smirnov(small, lambda x: (x - small.min()) / (small.max() - small.min())) < 1.95
    ratio = np.log(wide / high)[area < 0.4]
    assert (
        kolmogorov_smirnov(ratio, lambda x: (x - math.log(3 / 4)) / (2 * math.log(4 / 3))) < 2.5
    )  # sides are integers
    narrow = top[high == 150] if (high == 150).sum() > 50 else top[(high > 140) & (high < 160)]
    assert kolmogorov_smirnov(narrow / (height - 150), lambda x: np.clip(x, 0, 1)) < 2.5


def test_inception_crop_of_an_image_that_no_draw_fits():
    part = InceptionCrop(32)
    view = part.view(View(tf.constant([10, 1000])), keys(1)[0])
    assert view.corner.numpy().tolist() == [0, 493]
    assert view.extent.numpy().tolist() == [10, 13]
    assert part(tf.zeros((10, 1000, 3)), keys(1)[0]).shape == (32, 32, 3)


def test_random_erasing():
    images = tf.zeros((3000, 32, 32, 1))
    erased = apply((RandomErasing(0.25, value=1.0),), images, keys(3000)).numpy()
    share = erased.mean(axis=(1, 2, 3))
    assert abs((share > 0).mean() - 0.25) < 0.03
    assert share[share > 0].min() > 0.01
    assert share.max() < 0.36
    assert abs(share[share > 0].mean() - (0.02 + 1 / 3) / 2) < 0.02
    coloured = apply((RandomErasing(1.0),), tf.zeros((8, 32, 32, 3)), keys(8)).numpy()
    np.testing.assert_allclose(coloured.max(axis=(1, 2)), [augmentation.IMAGENET_MEAN] * 8, rtol=1e-6)


# The stacks


def test_the_papers_stack_is_its_definition():
    """The fused stack against a loop that decodes, resizes, crops, mirrors and calculates with the same draws."""
    part_of = {type(part).__name__: part for part in augmentation.paper_imagenet()}
    eigenvalues = np.array([0.2175, 0.0188, 0.0045])
    eigenvectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    mirrored = 0
    for i, encoded in enumerate(photographs()):
        key = keys(100)[i]
        image = tf.io.decode_jpeg(encoded, channels=3)
        short = 256 + draws.integers(part_of["ScaleJitter"].own(key), [225])[0].numpy()
        size = [short * side // min(image.shape[:2]) for side in image.shape[:2]]
        y, x = draws.integers(part_of["RandomCrop"].own(key), [side - 223 for side in size]).numpy()
        mirror = draws.uniform(part_of["RandomFlip"].own(key), 1)[0] < 0.5
        image = tf.image.resize(image, size, antialias=short < min(image.shape[:2]) / 2).numpy()[
            y : y + 224, x : x + 224
        ]
        image = image[:, ::-1] if mirror else image
        alpha = 0.1 * draws.normal(part_of["ColorAugmentation"].own(key), 3).numpy()
        expected = image + 255 * eigenvectors @ (alpha * eigenvalues) - (123.675, 116.28, 103.53)

        for source in (encoded, tf.io.decode_jpeg(encoded, channels=3)):
            ours = apply(augmentation.paper_imagenet(), source, key)
            assert ours.dtype == tf.float32
            assert np.abs(ours - expected).mean() < 0.01
            assert np.abs(ours - expected).max() < 0.1
        mirrored += int(mirror)
    assert 0 < mirrored < 12


@pytest.mark.parametrize("seed", [1, 2])
def test_cifars_stack_is_a_loop(seed):
    mean = RANDOM.uniform(100, 150, (32, 32, 3))
    ours = apply(augmentation.cifar(mean), BATCH, keys(16, seed))
    expected = []
    for image, key in zip(BATCH, keys(16, seed)):
        y, x = draws.integers(RandomCrop(32).own(key), [9, 9]).numpy()
        image = np.pad(image, [(4, 4), (4, 4), (0, 0)])[y : y + 32, x : x + 32]
        mirror = draws.uniform(RandomFlip().own(key), 1)[0] < 0.5
        expected.append((image[:, ::-1] if mirror else image) - mean)
    assert ours.shape == BATCH.shape
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 6), st.data())
def test_a_batch_is_its_images(height, width, count, data):
    crop = (data.draw(st.integers(1, height)), data.draw(st.integers(1, width)))
    stack = (RandomCrop(crop), RandomFlip(), ColorAugmentation(0.5), Normalize((1, 2, 3), 4.0))
    images = RANDOM.integers(0, 256, (count, height, width, 3), dtype="uint8")
    together = apply(stack, images, keys(count))
    alone = [apply(stack, image, key) for image, key in zip(images, keys(count))]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_evaluation_is_preprocess_input():
    encoded = photographs(1)[0]
    image = tf.io.decode_jpeg(encoded, channels=3)
    for preprocessing in ("torch", "caffe", Preprocessing(image_size=160, resize=173, interpolation="bicubic")):
        found = augmentation.evaluation(preprocessing)
        side = found[0].size
        size = [side * length // min(image.shape[:2]) for length in image.shape[:2]]
        resized = tf.image.resize(image, size, found[0].interpolation, antialias=True).numpy()
        y, x = (round((length - found[1].size) / 2) for length in size)  # half to even, as torchvision
        crop = resized[y : y + found[1].size, x : x + found[1].size]
        ours = apply(found, encoded)
        np.testing.assert_allclose(ours, preprocess_input(crop, preprocessing), atol=0.05)


def test_ten_crops_and_scales():
    encoded = photographs(1)[0]
    crops = apply(augmentation.ten_crops(), encoded).numpy()
    assert crops.shape == (10, 224, 224, 3)
    image = apply((Resize(256, antialias=True), *normalization()), encoded).numpy()
    np.testing.assert_allclose(crops[4], apply(augmentation.evaluation(), encoded), atol=1e-3)
    np.testing.assert_allclose(crops[3], image[-224:, -224:], atol=1e-3)
    np.testing.assert_array_equal(crops[5:], crops[:5, :, ::-1])
    for side, stack in zip((224, 256, 384, 480, 640), augmentation.multi_scale("caffe")):
        assert min(apply(stack, encoded).shape[:2]) == side
    assert TenCrops(20)(BATCH, None).shape == (16, 10, 20, 20, 3)


STACKS = {
    "paper": augmentation.paper_imagenet(64, 70, 90),
    "inception": augmentation.inception(48),
    "modern": augmentation.modern(48),
}


def runner(stack, encoded):
    """A function that runs `stack` in a pipeline; what it maps is traced once."""
    one, batch = (tf.function(lambda *inputs, half=half: apply(half, *inputs)) for half in split(stack))
    mixes = isinstance(stack[-1], Either)
    labels = tf.eye(4)

    def run(threads, seed=1, epoch=0, first=0):
        all_keys = example_keys(seed, epoch, tf.range(len(encoded)))
        dataset = tf.data.Dataset.from_tensor_slices((encoded, all_keys)).skip(first)
        dataset = dataset.map(lambda image, key: (one(image, key), key), num_parallel_calls=threads)
        dataset = dataset.batch(4, drop_remainder=True)
        if mixes:
            dataset = dataset.map(lambda images, key: batch(images, key, labels), num_parallel_calls=threads)
        else:
            dataset = dataset.map(lambda images, key: (batch(images, key), labels), num_parallel_calls=threads)
        images, new_labels = zip(*dataset)
        return np.concatenate(images), np.concatenate(new_labels)

    return run


@pytest.mark.parametrize("name", STACKS)
def test_the_same_on_any_number_of_threads_and_after_a_resume(name):
    run = runner(STACKS[name], photographs())
    one_thread, labels = run(threads=1)
    assert np.all(np.isfinite(one_thread))
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
    for _ in range(2):
        many_threads, many_labels = run(threads=16)
        np.testing.assert_array_equal(one_thread, many_threads)
        np.testing.assert_array_equal(labels, many_labels)
    np.testing.assert_array_equal(one_thread[8:], run(threads=16, first=8)[0])
    for other in ({"epoch": 1}, {"seed": 2}):
        others = run(threads=16, **other)[0]
        assert np.all(np.abs(others - one_thread).mean(axis=(1, 2, 3)) > 0)


def test_splits():
    one, batch = split(augmentation.paper_imagenet())
    assert [type(part) for part in one] == [ScaleJitter, RandomCrop, RandomFlip]
    assert [type(part) for part in batch] == [ColorAugmentation, Normalize]
    assert split(augmentation.paper_imagenet(), encoded=False) == (one, batch)
    assert split(augmentation.cifar(), encoded=False)[0] == ()
    one, batch = split(augmentation.modern())
    assert isinstance(one[-1], RandAugment)
    assert isinstance(batch[-1], Either)


def test_uint8_for_the_device():
    stack = augmentation.paper_imagenet()
    host, device = for_device(stack)
    encoded, key = photographs(1)[0], keys(1)[0]
    image = apply(host, encoded, key)
    assert image.dtype == tf.uint8
    inside = (image > 0) & (image < 255)
    whole_stack = apply(stack, encoded, key)
    assert np.abs(apply(device, image) - whole_stack)[inside].max() <= 0.501
    assert for_device(augmentation.evaluation("caffe"))[1] == augmentation.evaluation("caffe")[-2:]
    assert ToUint8()(BATCH, None) is BATCH


# Colours


def test_pca_colour():
    components = ColorAugmentation(0.1).affinity(keys(20_000)).color.numpy() / 255
    eigenvalues = np.array([0.2175, 0.0188, 0.0045])
    eigenvectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    expected = eigenvectors @ np.diag((0.1 * eigenvalues) ** 2) @ eigenvectors.T
    np.testing.assert_allclose(np.cov(components.T), expected, rtol=0.05)
    assert np.abs(components.mean(axis=0)).max() < 3 * 0.1 * 0.2175 / math.sqrt(20_000)


def test_neighbours_that_add_and_scale_are_one():
    mean = RANDOM.uniform(0, 255, (32, 32, 3))
    stack = (Normalize(mean, (2.0, 3.0, 4.0)), ColorAugmentation(0.1), Normalize((1, 2, 3), 5.0), Normalize(mean))
    expected = tf.constant(BATCH)
    for part in stack:
        expected = part(expected, keys(16))
    np.testing.assert_allclose(apply(stack, BATCH, keys(16)), expected, atol=1e-3)
    image, key = BATCH[3], keys(16)[3]
    np.testing.assert_allclose(apply(stack, image, key), expected[3], atol=1e-3)


@pytest.mark.parametrize("name", ["torch", "caffe"])
def test_normalization_is_preprocess_input(name):
    np.testing.assert_allclose(apply(normalization(name), BATCH), preprocess_input(BATCH, name), atol=1e-4)


def test_parts_are_equal_where_they_do_the_same():
    assert augmentation.cifar() == augmentation.cifar()
    assert augmentation.cifar() != augmentation.cifar(padding=3)
    assert hash(augmentation.modern()) == hash(augmentation.modern())
    mean = RANDOM.uniform(0, 255, (4, 4, 3))
    assert SubtractMean(mean) == SubtractMean(mean.copy())
    assert len({SubtractMean(mean), SubtractMean(mean + 1), SubtractMean(), Normalize(std=2.0), Pad()}) == 5


def test_mean_image():
    np.testing.assert_allclose(mean_image(BATCH), BATCH.mean(axis=0), rtol=1e-6)
    dataset = tf.data.Dataset.from_tensor_slices(BATCH).batch(5)
    np.testing.assert_allclose(mean_image(dataset), BATCH.mean(axis=0), rtol=1e-6)
    centred = apply((SubtractMean(mean_image(BATCH)),), BATCH)
    np.testing.assert_allclose(centred.numpy().mean(axis=0), 0, atol=1e-4)


def test_colour_jitter():
    factors = 1 + np.array([0.4, 0.3, 0.2]) * (2 * draws.uniform(ColorJitter().own(keys(16)), 3).numpy() - 1)
    for image, ours, (brightness, contrast, saturation) in zip(
        BATCH, apply((ColorJitter(0.4, 0.3, 0.2),), BATCH, keys(16)), factors
    ):
        image = image * brightness
        grey = image @ [0.299, 0.587, 0.114]
        image = contrast * image + (1 - contrast) * grey.mean()
        grey = image @ [0.299, 0.587, 0.114]
        image = saturation * image + (1 - saturation) * grey[..., np.newaxis]
        np.testing.assert_allclose(ours, np.clip(image, 0, 255), atol=1e-2)


def test_rand_augment():
    image = tf.constant(np.kron(BATCH[0, :8, :8], np.ones((6, 6, 1))), tf.float32)
    many = [RandAugment(1, rate=1.0)(image, key).numpy() for key in keys(40)]
    assert all(result.shape == image.shape for result in many)
    assert all(result.min() > -1e-3 and result.max() < 255 + 1e-3 for result in many)
    assert len({result.tobytes() for result in many}) > 20
    np.testing.assert_array_equal(RandAugment(2, rate=0.0)(image, keys(1)[0]), image)
    np.testing.assert_array_equal(RandAugment(2)(image, keys(3)[2]), RandAugment(2)(image, keys(3)[2]))


def test_rand_augment_under_a_mixed_policy():
    policy = keras.config.dtype_policy()
    image, key = tf.constant(BATCH[0], tf.float32), keys(1)[0]
    expected = [RandAugment(2)(image, key) for key in keys(10)]
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        ours = [RandAugment(2)(image, key) for key in keys(10)]
        in_a_graph = tf.function(lambda: RandAugment(2)(image, key))()
    finally:
        keras.config.set_dtype_policy(policy)
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_allclose(in_a_graph, expected[0], atol=1e-3)


# Mixing


def test_weights_and_partners():
    for alpha in (0.01, 0.2, 1.0, 2.0):
        weight, partner = (x.numpy() for x in weights_and_partners(tf.constant([1, 2]), 20_000, alpha))
        assert np.all((weight >= 0) & (weight <= 1))  # and none is NaN
        assert sorted(partner) == list(range(20_000))
        assert abs(weight.mean() - 0.5) < 0.02
        assert abs(weight.var() - 1 / (4 * (2 * alpha + 1))) < 0.005
    weight = weights_and_partners(tf.constant([1, 2]), 20_000, 1.0)[0].numpy()
    assert kolmogorov_smirnov(weight, lambda x: x) < 1.95


def test_mixup():
    labels = tf.one_hot(tf.range(16) % 5, 5)
    part = MixUp(0.5)
    images, mixed = apply((part,), BATCH, keys(16), labels)
    weight, partner = (x.numpy() for x in weights_and_partners(part.seed(keys(16)), 16, 0.5))
    w = weight[:, np.newaxis]
    np.testing.assert_allclose(mixed, w * labels + (1 - w) * labels.numpy()[partner], rtol=1e-6)
    w = w[..., np.newaxis, np.newaxis]
    np.testing.assert_allclose(images, w * BATCH + (1 - w) * BATCH[partner], rtol=1e-4, atol=1e-3)


def test_cutmix_counts_the_pixels():
    plain = np.broadcast_to(np.arange(64)[:, np.newaxis, np.newaxis, np.newaxis], (64, 24, 20, 1))
    part = CutMix(1.0)
    images, labels = apply((part,), plain, keys(64), tf.eye(64))
    partner = weights_and_partners(part.seed(keys(64)), 64, 1.0)[1].numpy()
    for i in range(64):
        own = (images[i].numpy() == i).mean()
        if partner[i] != i:
            assert abs(labels[i, i] - own) < 1e-5
            assert abs(labels[i, partner[i]] - (1 - own)) < 1e-5
            assert (images[i].numpy() == partner[i]).mean() == pytest.approx(1 - own)
            rows = np.flatnonzero((images[i].numpy() != i).any(axis=(1, 2)))  # a box: no holes
            columns = np.flatnonzero((images[i].numpy() != i).any(axis=(0, 2)))
            assert round((1 - own) * 480) == len(rows) * len(columns)


def test_either():
    labels = tf.eye(16)
    part = Either((MixUp(1.0), CutMix(1.0)))
    mixed_up = 0
    for epoch in range(20):
        batch_keys = keys(16, epoch=epoch)
        images, _ = part(tf.constant(BATCH), labels, batch_keys)
        ways = [mixing(tf.constant(BATCH), labels, batch_keys)[0].numpy() for mixing in part.mixings]
        same = [np.array_equal(images, way) for way in ways]
        assert sum(same) == 1
        mixed_up += same[0]
    assert 4 < mixed_up < 16


# What goes wrong


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: apply((RandomFlip(),), BATCH), "draws"),
        (lambda: apply((RandomFlip(),), BATCH, keys(16)[0]), "a key for each image"),
        (lambda: apply((RandomFlip(),), BATCH, tf.range(16)), "a key for each image"),
        (lambda: apply((RandomFlip(), RandomFlip()), BATCH, keys(16)), "salt"),
        (lambda: split((RandomErasing(), RandomErasing())), "salt"),
        (lambda: apply((ScaleJitter(),), BATCH, keys(16)), "one image"),
        (lambda: apply((RandAugment(),), BATCH, keys(16)), "one image"),
        (lambda: apply((MixUp(),), BATCH, keys(16)), "labels too"),
        (lambda: apply((MixUp(),), BATCH, keys(16), tf.range(16)), "one-hot"),
        (lambda: apply((), tf.constant([b"a", b"b"])), "one encoded image"),
        (lambda: apply((), tf.zeros((2, 2))), "images"),
        (lambda: ScaleJitter(480, 256), "low <= high"),
        (lambda: Resize(256, "cubic"), "bicubic"),
        (lambda: RandomCrop(0), "positive"),
        (lambda: CenterCrop((224, 224.0)), "positive"),
        (lambda: InceptionCrop(area=(0.5, 1.5)), "area"),
        (lambda: RandomErasing(ratio=(0, 1)), "ratio"),
        (lambda: RandomFlip(2), "probability"),
        (lambda: RandomErasing(-1), "probability"),
        (lambda: RandAugment(magnitude=9), "magnitude"),
        (lambda: ColorJitter(contrast=2), "contrast"),
        (lambda: MixUp(0), "alpha"),
        (lambda: Normalize((1, 2, 3), (1, 2)), "std"),
        (lambda: Normalize(5.0), "mean"),
        (lambda: normalization("imagenet"), "torch, caffe"),
        (lambda: augmentation.evaluation("imagenet"), "torch, caffe"),
        (lambda: mean_image([]), "no images"),
        (lambda: mean_image([np.zeros((2, 2))]), "Batches"),
    ],
)
def test_bad_input(call, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        call()
    assert "Received:" in str(error.value)


def test_salts_tell_parts_apart():
    images = apply(
        (RandomErasing(1.0, value=1.0), RandomErasing(1.0, value=1.0, salt=1)), tf.zeros((64, 32, 32, 1)), keys(64)
    )
    alone = apply((RandomErasing(1.0, value=1.0),), tf.zeros((64, 32, 32, 1)), keys(64))
    assert images.numpy().mean() > alone.numpy().mean() + 0.05


def test_padding():
    image = apply((Pad(2, 7),), BATCH)
    np.testing.assert_array_equal(image, np.pad(BATCH, [(0, 0), (2, 2), (2, 2), (0, 0)], constant_values=7))
