"""Stacks: reproducibility, the paper's against their definitions, and what goes wrong."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from stacks import BATCH, RANDOM, keys, photographs

from keras_resnet import Preprocessing, preprocess_input
from keras_resnet.data import augmentation, draws
from keras_resnet.data.augmentation import (
    CenterCrop,
    ColorAugmentation,
    ColorJitter,
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
    TenCrops,
    ToUint8,
    apply,
    example_keys,
    for_device,
    mean_image,
    normalization,
    split,
)

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
    host, device = for_device(augmentation.modern())
    assert device == normalization()
    assert isinstance(host[-2], Either)  # a mean of images is mixed as well before it is normalised


# What goes wrong


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: apply((RandomFlip(),), BATCH), "draws"),
        (lambda: apply((RandomFlip(),), BATCH, keys(16)[0]), "a key for each image"),
        (lambda: apply((RandomFlip(),), BATCH, tf.range(16)), "a key for each image"),
        (lambda: apply((RandomFlip(), RandomFlip()), BATCH, keys(16)), "salt"),
        (lambda: split((RandomErasing(), RandomErasing())), "salt"),
        (lambda: split((Either((MixUp(0.1), MixUp(0.2))),)), "salt"),
        (lambda: for_device((*normalization(), RandomErasing())), "follows the normalisation"),
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
        (lambda: ColorJitter(hue=0.6), "hue"),
        (lambda: MixUp(0), "alpha"),
        (lambda: Normalize((1, 2, 3), (1, 2)), "std"),
        (lambda: Normalize(5.0), "mean"),
        (lambda: normalization("imagenet"), "torch, paper, tf, caffe"),
        (lambda: augmentation.evaluation("imagenet"), "torch, paper, tf, caffe"),
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
