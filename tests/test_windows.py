"""Windows against decoding, resizing and cropping everything, and the formats of images."""

import base64
import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from keras_resnet.data import augmentation, draws, windows
from keras_resnet.data.augmentation import RandomCrop, RandomFlip, ScaleJitter, apply, example_keys
from keras_resnet.data.windows import Scaling, View, decode, render


def photograph(height, width, seed=0):
    """Coarse and fine structure, strong colours: chroma upsampling and resampling have something to do."""
    random = np.random.default_rng(seed)
    coarse = tf.image.resize(random.uniform(-60, 315, (height // 8 + 2, width // 8 + 2, 3)), (height, width), "bicubic")
    return np.clip(coarse + random.normal(0, 20, (height, width, 3)), 0, 255).astype("uint8")


def jpeg(height, width, **options):
    return tf.io.encode_jpeg(photograph(height, width), **options)


def through(size, offset, crop, interpolation="bilinear", antialias=None, mirror=None):
    """The lens that scales to `size` and crops."""

    def lens(view: View) -> View:
        scaling = Scaling(tf.constant(size), interpolation, antialias, shortest=min(size))
        view = view.resize(scaling).crop(tf.constant(offset), crop)
        return view if mirror is None else view.mirrored(tf.constant(mirror))

    return lens


def by_the_whole(encoded, size, offset, crop, interpolation="bilinear", antialias=False, mirror=False):
    image = tf.image.resize(tf.io.decode_jpeg(encoded, channels=3), size, interpolation, antialias=antialias)
    image = image[offset[0] : offset[0] + crop[0], offset[1] : offset[1] + crop[1]]
    return image[:, ::-1] if mirror else image


def assert_same(ours, reference):
    assert ours.shape == reference.shape
    difference = np.abs(np.float64(ours) - np.float64(reference))
    assert difference.mean() < 0.01
    # positions are float32, in TensorFlow's resize too
    assert difference.max() < 0.1


CORNERS = [(0, 0), (1, 1), (0.5, 0.5), (0, 1), (0.3, 0.8)]


@pytest.mark.parametrize("place", CORNERS)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((375, 500), (256, 341)),
        ((500, 375), (640, 480)),  # grows, portrait
        ((233, 311), (233, 311)),  # neither
        ((517, 391), (339, 256)),
        ((301, 1203), (130, 519)),  # shrinks to less than half
        ((131, 97), (1000, 741)),
    ],
)
@pytest.mark.parametrize("antialias", [None, False, True])
def test_scaled_crops(before, after, place, antialias):
    crop = (113, 96)
    encoded = jpeg(*before, quality=95)
    offset = [round(share * (side - length)) for share, side, length in zip(place, after, crop)]
    smooth = after[0] < before[0] / 2 if antialias is None else antialias
    for mirror in (False, True):
        ours = render(encoded, through(after, offset, crop, antialias=antialias, mirror=mirror))
        assert_same(ours, by_the_whole(encoded, after, offset, crop, antialias=smooth, mirror=mirror))


@pytest.mark.parametrize("antialias", [None, False, True])
def test_in_a_graph(antialias):
    """Every way through the conditions of a graph: shrinking to less than half, growing, at the image's edges."""
    stack = (ScaleJitter(60, 700, antialias=antialias), RandomCrop(58), RandomFlip())
    encoded = jpeg(203, 305)
    graph = tf.function(lambda key: apply(stack, encoded, key))
    for key in example_keys(1, 0, tf.range(60)):
        side = 60 + draws.integers(stack[0].own(key), [641])[0].numpy()
        after = (side, side * 305 // 203)
        offset = draws.integers(stack[1].own(key), [length - 57 for length in after]).numpy()
        mirror = draws.uniform(stack[2].own(key), 1)[0] < 0.5
        smooth = bool(side < 203 / 2) if antialias is None else antialias
        assert_same(graph(key), by_the_whole(encoded, after, offset, (58, 58), antialias=smooth, mirror=mirror))


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("after", [(128, 171), (512, 683)])
def test_bicubic(antialias, after):
    encoded = jpeg(301, 401)
    for offset in ((0, 0), (17, 31), (28, 71)):
        ours = render(encoded, through(after, offset, (100, 100), "bicubic", antialias))
        assert_same(ours, by_the_whole(encoded, after, offset, (100, 100), "bicubic", antialias))


@pytest.mark.parametrize(
    "options", [{"format": "rgb", "chroma_downsampling": False}, {"progressive": True}, {"quality": 20}]
)
def test_kinds_of_jpeg(options):
    encoded = jpeg(203, 305, **options)
    for offset in ((0, 0), (63, 90), (20, 33)):
        ours = render(encoded, through((163, 245), offset, (100, 155), mirror=False))
        assert_same(ours, by_the_whole(encoded, (163, 245), offset, (100, 155)))


def test_cropping_before_scaling_does_not_look_beyond_the_crop():
    encoded = jpeg(203, 305)
    for corner, extent in (((0, 0), (203, 305)), ((31, 57), (90, 110)), ((150, 250), (53, 55)), ((20, 30), (1, 1))):
        for size in ((64, 64), (30, 40)):

            def lens(view, corner=corner, extent=extent, size=size):
                view = view.crop(tf.constant(corner), tf.constant(extent))
                return view.resize(Scaling(tf.constant(size), "bilinear", False, min(size)), fixed=size)

            image = tf.io.decode_jpeg(encoded)[corner[0] : corner[0] + extent[0], corner[1] : corner[1] + extent[1]]
            assert_same(render(encoded, lens), tf.image.resize(image, size))


def test_only_cropping_keeps_the_bytes():
    encoded = jpeg(50, 70)
    whole = tf.io.decode_jpeg(encoded).numpy()
    for (y, x), (h, w) in (((0, 0), (50, 70)), ((17, 33), (16, 16)), ((49, 69), (1, 1)), ((3, 5), (40, 1))):
        ours = render(
            encoded, lambda view, o=(y, x), s=(h, w): view.crop(tf.constant(o), s).mirrored(tf.constant(True))
        )
        assert ours.dtype == tf.uint8
        np.testing.assert_array_equal(ours, whole[y : y + h, x : x + w][:, ::-1])


def test_the_window_is_small():
    view = through((500, 1000), (100, 200), (50, 60), antialias=False)(View(tf.constant([1000, 2000])))
    begin, end = windows.window(view, windows.samples(view))
    assert np.all(begin >= (198, 398))
    assert np.all(end <= (303, 523))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_windows_hold_every_pixel_that_counts(data):
    side = st.integers(1, 3000)
    before, after = data.draw(st.tuples(side, side)), data.draw(st.tuples(side, side))
    crop = [data.draw(st.integers(1, length)) for length in after]
    offset = [data.draw(st.integers(0, length - part)) for length, part in zip(after, crop)]
    antialias = data.draw(st.sampled_from([None, False, True]))
    interpolation = data.draw(st.sampled_from(["bilinear", "bicubic"]))
    view = through(after, offset, tuple(crop), interpolation, antialias)(View(tf.constant(before)))
    begin, end = (corner.numpy() for corner in windows.window(view, windows.samples(view)))
    assert np.all((begin >= 0) & (begin < end) & (end <= before))

    step = np.divide(before, after)
    smooth = {None: step.max() > 2, True: True, False: False}[antialias]
    radius = (2 if interpolation == "bicubic" else 1) * (np.maximum(step, 1) if smooth else 1)
    first = (np.array(offset) + 0.5) * step - 0.5
    last = first + (np.array(crop) - 1) * step
    # A pixel has weight where it is nearer to a sample than the radius, and edges stand for what is beyond them.
    assert np.all(begin <= np.clip(np.floor(first - radius + 1e-9) + 1, 0, np.array(before) - 1))
    assert np.all(end - 1 >= np.clip(np.ceil(last + radius - 1e-9) - 1, 0, np.array(before) - 1))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_window_is_exact(data):
    height, width = data.draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    after = data.draw(st.tuples(st.integers(1, 90), st.integers(1, 90)))
    crop = tuple(data.draw(st.integers(1, length)) for length in after)
    offset = [data.draw(st.integers(0, length - part)) for length, part in zip(after, crop)]
    antialias = data.draw(st.booleans())
    encoded = jpeg(height, width)
    ours = render(encoded, through(after, offset, crop, antialias=antialias))
    assert_same(ours, by_the_whole(encoded, after, offset, crop, antialias=antialias))


# Written by Pillow: six by nine pixels of red (cyan) 20 x, green (magenta) 30 y, blue (yellow) 90, alpha (black) 40;
# and a GIF of two frames, red and blue.
CMYK = (
    b"|JeWT01iQ9Z(?NtWB>pF0095n07C!*0RaI40RjO50RjR70s;gB0s;a81q1{G1O^2L1_lKN1_lQS2nGiU2L=WR3kV4c3JMAe1_%ob3knPg3JMDU"
    b"zyK5o00saF1Va%3O%VWD5dcdO0RO}Q761VO0RR910000000000000083ID_Z9uNQl0|WyA0000000000000011P2*YlhO%Ag8$k84g^C0O#oQ{O8@"
    b"{r0J%AB?ERE2YbE<n^Crb8YT=UNwUYg(`IBG||Je"
)
WEBP = b"Qb|TeE&u=kS4BclR!}%hApigXF9<*Z0J)6lf9xWn{{e+;BS1%T{-Qs@P>fbg07Q~}0RR"
WEBP_ALPHA = b"Qb|TeE&u=kS4BclR!}%hA^-pYF9<*Z5V?%#f9xWn{{e+;BS1%T{-Qs@P>j~3OaP2X;tK"
GIF = b"M@dFFH(>(+0sw&k0RI30000000000004x9i000930ssIA1^@vF92gJ)A^8LW00031EC2ui00RI50D%Ai{{R3000000000000OE009Ub7!UwE"


def bmp(depth):
    """A red BMP of three by two pixels, or one whose palette has red first."""
    palette = b"\0\0\xff\0" * 256 if depth == 8 else b""
    pixels = {8: b"\0\0\0\0", 24: b"\0\0\xff" * 3 + b"\0\0\0", 32: b"\0\0\xff\xff" * 3}[depth] * 2
    start = 54 + len(palette)
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", start + len(pixels), 0, 0, start, 40, 3, 2, 1, depth, *[0] * 6)
    return header + palette + pixels


def test_formats():
    y, x = np.mgrid[:6, :9]
    ramp = np.stack([x * 20, y * 30, x * 0 + 90], -1)
    red = np.full((2, 3, 3), (255, 0, 0))
    colours = photograph(6, 9)
    grey = colours[..., :1]
    wide = tf.constant(colours.astype("uint16") * 257)
    inks = (255 - ramp) * (255 - 40) / 255
    stack = (augmentation.Resize(12), augmentation.CenterCrop((5, 6)))
    in_a_graph = tf.function(lambda image: apply(stack, image))
    for encoded, expected, tolerance in (
        (base64.b85decode(WEBP), ramp, 0),
        (base64.b85decode(WEBP_ALPHA), ramp, 0),
        (base64.b85decode(GIF), red, 0),
        (bmp(24), red, 0),
        (bmp(32), red, 0),
        (tf.io.encode_png(colours), colours, 0),
        (tf.io.encode_png(wide), colours, 0),
        (tf.io.encode_png(np.concatenate([colours, grey], -1)), colours, 0),
        (tf.io.encode_png(grey), np.repeat(grey, 3, -1), 0),
        (tf.io.encode_png(np.concatenate([grey, grey // 2], -1)), np.repeat(grey, 3, -1), 0),
        (tf.io.encode_jpeg(np.full((6, 9, 1), 77, "uint8")), np.full((6, 9, 3), 77), 1),
        (base64.b85decode(CMYK), inks, 6),
    ):
        expected = np.float64(expected)
        for image in (decode(encoded), apply((), encoded), render(tf.constant(encoded), lambda view: view)):
            assert image.dtype == tf.uint8
            np.testing.assert_allclose(image, expected, atol=tolerance)
        whole = tf.image.resize(expected, (12, 18))[4:9, 6:12]
        for crop in (apply(stack, encoded), in_a_graph(tf.constant(encoded))):
            np.testing.assert_allclose(crop, whole, atol=tolerance + 0.01)


def test_a_palette_is_refused_by_name():
    with pytest.raises(tf.errors.InvalidArgumentError, match="BMP with a palette"):
        decode(bmp(8))
    dataset = tf.data.Dataset.from_tensors(bmp(8)).map(lambda encoded: apply(augmentation.evaluation(), encoded))
    with pytest.raises(tf.errors.InvalidArgumentError, match="BMP with a palette"):
        list(dataset)


def test_a_crop_that_does_not_fit():
    with pytest.raises(ValueError, match="does not fit into images whose shorter side is 256"):
        apply((augmentation.Resize(256), augmentation.CenterCrop(288)), jpeg(20, 20))
    with pytest.raises(tf.errors.InvalidArgumentError, match="does not fit into its image"):
        apply((augmentation.CenterCrop(32),), jpeg(40, 20))


def test_no_image():
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(b"no image")
    with pytest.raises(tf.errors.InvalidArgumentError):
        render(tf.constant(jpeg(50, 70).numpy()[:40]), lambda view: view)
