"""Weights of others end up where they belong, or nowhere; and ours come out again, bit by bit."""

import hashlib
import http.server
import json
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from golden.recipe import CLASSES, images, uniform

import keras_resnet
from keras_resnet import Architecture, preprocess_input
from keras_resnet.architectures import NAMED
from keras_resnet.weights import LAYOUTS, is_path, names
from keras_resnet.weights.assign import assign, collect, sources, traits
from keras_resnet.weights.catalog import CATALOG, Published, Trained, resolve
from keras_resnet.weights.download import download
from keras_resnet.weights.readers import read, write_safetensors

pytestmark = pytest.mark.lower_house
GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared" / "data"
NARROW = {"depths": (1, 1, 1, 1), "widths": (8, 8, 16, 16)}
DEEP = {"stem": "deep", "downsample": "average"}
ROWS = {
    "basic": Architecture(**NARROW),
    "bottleneck": Architecture(**NARROW, block="bottleneck", stride_on="3x3"),
    "grouped": Architecture(**NARROW, block="bottleneck", stride_on="3x3", groups=4, group_width=16),
    "deep": Architecture(**NARROW, **DEEP),
    "se": Architecture(**NARROW, block="bottleneck", stride_on="3x3", squeeze_excite=1 / 4),
    "rs": Architecture(
        **NARROW, **DEEP | {"stem": "deep_strided"}, block="bottleneck", stride_on="3x3", squeeze_excite=1 / 4
    ),
    "v2": Architecture(**NARROW, block="bottleneck", stride_on="3x3", preactivation=True),
}
PYTORCH = json.loads((GOLDEN / "narrow.json").read_text())


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def build(architecture, **arguments):
    defaults = {"classes": CLASSES, "input_shape": (None, None, 3), "classifier_activation": None}
    return keras_resnet.build(architecture, **defaults | arguments)


def assert_equal_weights(*models):
    for own, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("family", PYTORCH)
def test_what_pytorch_and_safetensors_saved_answers_as_it_did_there(family):
    model = build(ROWS[family], weights=GOLDEN / "narrow" / PYTORCH[family]["file"])
    expected = np.array(PYTORCH[family]["logits"])
    assert np.abs(numpy(model(images())) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the files are the same on every backend")
@pytest.mark.parametrize("ending", [".h5", ".weights.h5"])
def test_what_keras_saved_of_its_own_networks(tmp_path, ending):
    arguments = {"weights": None, "input_shape": (64, 64, 3)}
    path = tmp_path / f"resnet50{ending}"
    for top in ({"classes": 10}, {"include_top": False}):
        theirs = keras.applications.ResNet50(**arguments, **top)
        for variable in theirs.weights:
            if variable.name != "kernel":
                variable.assign(uniform(variable.path, variable.shape, 0.3, 0.7))
        theirs.save_weights(path) if ending == ".weights.h5" else theirs.save(path, include_optimizer=False)
        ours = keras_resnet.ResNet50(**arguments | {"weights": path}, **top)
        expected = numpy(theirs(images()[:, :64]))
        assert np.abs(numpy(ours(images()[:, :64])) - expected).max() <= 1e-4 * np.abs(expected).max()
    with pytest.raises(ValueError, match=r"2 missing.*predictions"):
        keras_resnet.ResNet50(weights=path)


def test_what_keras_hub_saved_answers_as_it_did_there():
    row = Architecture(depths=(1, 2, 1, 1), widths=(64, 16, 16, 16), block="bottleneck", stride_on="3x3")
    model = build(row, weights=GOLDEN / "keras_hub" / "task.weights.h5")
    expected = np.array(json.loads((GOLDEN / "keras_hub" / "logits.json").read_text())["logits"])
    assert np.abs(numpy(model(images())) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("ending", [".safetensors", ".weights.h5", ".keras"])
@pytest.mark.parametrize("row", [ROWS["rs"], keras_resnet.cifar(6 * 51 + 2, drop_path=0.1)], ids=["rs", "nested"])
def test_out_and_in_again_is_exact(tmp_path, ending, row):
    model, path = build(row), tmp_path / f"model{ending}"
    model.save(path) if ending == ".keras" else keras_resnet.weights.save(model, path)
    assert_equal_weights(build(row, weights=path), model)


@pytest.mark.parametrize(("family", "layout"), [("basic", "torchvision"), ("rs", "timm_d"), ("v2", "timm_v2")])
def test_out_under_pytorchs_names_and_in_again_is_exact(tmp_path, family, layout):
    model, path = build(ROWS[family]), tmp_path / "model.safetensors"
    keras_resnet.weights.save(model, path, names=layout)
    theirs = read(GOLDEN / "narrow" / PYTORCH[family]["file"])
    saved = read(path)
    expected = {name: value.shape for name, value in theirs.items() if "num_batches" not in name}
    assert {name: value.shape for name, value in saved.items()} == expected
    assert_equal_weights(build(ROWS[family], weights=path), model)


def test_caffes_pairs_of_batch_norm_and_scale():
    """BN has mean, variance and the factor that both are to be divided by; Scale has gamma and beta."""
    model = build(Architecture(depths=(1, 3), widths=(32, 16), block="bottleneck"))
    for layout, block3 in (("caffe", "3c"), ("caffe_deep", "3b2")):
        arrays = {}
        for source in sources(model, LAYOUTS[layout]):
            shape = tuple(source.variable.shape)
            shape = {4: lambda s: (s[3], s[2], s[0], s[1]), 2: lambda s: (s[1], s[0])}.get(len(shape), tuple)(shape)
            arrays[source.name] = uniform(source.name, shape, 0.5, 1.5)
            if source.divisor:
                arrays[source.divisor] = np.array([999.98], "float32")
        named = {f"res{block3}_branch2b/0", f"bn{block3}_branch2b/1", "res2a_branch1/0", "scale2a_branch1/0"}
        assert named | {"conv1/0", "bn_conv1/2", "scale_conv1/1", "fc1000/1"} <= set(arrays)
        assign(model, arrays, LAYOUTS[layout])
        norm = model.get_layer("stage2_block3_bn2")
        np.testing.assert_allclose(numpy(norm.moving_mean), arrays[f"bn{block3}_branch2b/0"] / 999.98, rtol=1e-6)
        np.testing.assert_array_equal(numpy(norm.gamma), arrays[f"scale{block3}_branch2b/0"])
        kernel = arrays[f"res{block3}_branch2b/0"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(numpy(model.get_layer("stage2_block3_conv2").kernel), kernel)


def test_what_does_not_fit_is_refused_and_nothing_is_loaded(tmp_path):
    path = tmp_path / "basic.safetensors"
    keras_resnet.weights.save(build(ROWS["basic"]), path)
    good, model = read(path), build(ROWS["basic"])
    before = model.get_weights()
    broken = {
        "1 missing .*stem_conv/kernel": {name: value for name, value in good.items() if name != "stem_conv/kernel"},
        "2 unexpected .*extra1, extra2": good | {"extra1": np.zeros(1), "extra2": np.zeros(1)},
        r"1 of another shape .*\(3,\) for \(16,\)": good | {"predictions/bias": np.zeros(3)},
        "26 missing .*, ...": {name: good[name] for name in good if not name.endswith(("gamma", "moving_mean"))},
    }
    for complaint, arrays in broken.items():
        write_safetensors(path, arrays)
        with pytest.raises(ValueError, match=complaint) as error:
            keras_resnet.weights.load_weights(model, path)
        assert "\n" not in str(error.value)
    for own, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(own, value)
    write_safetensors(path, {"something/else": np.zeros(3)})
    with pytest.raises(ValueError, match="any known layout"):
        build(ROWS["basic"], weights=path)


def test_a_head_is_left_out_only_where_that_is_asked_for(tmp_path):
    path = tmp_path / "basic.safetensors"
    model = build(ROWS["basic"])
    keras_resnet.weights.save(model, path, names="torchvision")
    with pytest.raises(ValueError, match=r"2 of another shape .*fc\.weight"):
        build(ROWS["basic"], weights=path, classes=3)
    other = build(ROWS["basic"], weights=path, classes=3, load_head=False)
    bare = build(ROWS["basic"], weights=path, include_top=False)
    stages = build(ROWS["basic"], weights=path, features=True)
    first = numpy(model.get_layer("stem_conv").kernel)
    for headless in (other, bare, stages):
        np.testing.assert_array_equal(numpy(headless.get_layer("stem_conv").kernel), first)
    assert not numpy(other.get_layer("predictions").bias).any()


def test_settings_that_shapes_do_not_show_are_checked(tmp_path):
    path = tmp_path / "bottleneck.safetensors"
    keras_resnet.weights.save(build(ROWS["bottleneck"]), path, names="torchvision")
    paper = Architecture(**NARROW, block="bottleneck")
    with pytest.raises(ValueError, match="stride_on='3x3'"):
        build(paper, weights=path)
    with pytest.raises(ValueError, match="stride_on='3x3'"):
        keras_resnet.weights.save(build(paper), path, names="torchvision")
    around = build(keras_resnet.cifar(8, zero_channels="around"))
    keras_resnet.weights.save(around, path, names="pytorch_resnet_cifar10")
    with pytest.raises(ValueError, match="zero_channels='around'"):
        build(keras_resnet.cifar(8), weights=path)
    assert traits(around) == {"zero_channels": "around"}
    assert traits(build(keras_resnet.cifar(6 * 51 + 2))) == {"zero_channels": "after"}


def test_names_of_every_layout():
    assert names.layer_name("stage2_block1_conv3", LAYOUTS["torchvision"]) == "layer2.0.conv3"
    assert names.layer_name("stage4_block3_bn2", LAYOUTS["timm_v2"]) == "stages.3.blocks.2.norm2"
    assert names.layer_name("stage4_block3_bn2", LAYOUTS["keras_applications"]) == "conv5_block3_2_bn"
    assert names.layer_name("stage3_block23_conv1", LAYOUTS["caffe_deep"]) == "res4b22_branch2a"
    assert names.layer_name("stem_conv2", LAYOUTS["torchvision"]) is None
    with pytest.raises(ValueError, match=r"no name for 6 layers .*stem_conv1"):
        collect(build(ROWS["deep"]), LAYOUTS["torchvision"])
    with pytest.raises(ValueError, match="recomputed"):
        collect(build(Architecture(**NARROW, block="bottleneck")), LAYOUTS["caffe"])


def test_the_catalog():
    for row in CATALOG:
        assert row.network in NAMED
        assert row.hash is None or row.hash.partition(":")[0] in ("md5", "sha256")
        assert row.url.startswith("weights/cifar10/" if isinstance(row, Trained) else "https://")
        for setting, value in LAYOUTS[row.layout].requires.items():
            assert row.architecture.block == "basic" or getattr(row.architecture, setting) == value
        assert resolve(row.architecture, row.tag) is row
        rivals = [rival.top1 or 0 for rival in CATALOG if rival.architecture == row.architecture]
        if row.classes == 1000:
            assert (resolve(row.architecture, "imagenet").top1 or 0) == max(rivals)
    assert len({(row.network, row.tag) for row in CATALOG}) == len(CATALOG)
    tags = [row.tag for row in keras_resnet.weights.list("resnet-50")]
    assert tags == ["caffe", "IMAGENET1K_V1", "IMAGENET1K_V2", "a1_in1k"]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: keras_resnet.ResNet50(weights="imagenet", classes=10), "1000 classes.*load_head=False"),
        (lambda: keras_resnet.ResNet50(weights="IMAGENET1K_V2"), "stride_on='3x3'"),
        (lambda: keras_resnet.ResNet50(weights="caffe", stride_on="3x3"), "stride_on='1x1'"),
        (lambda: keras_resnet.ResNet50(weights="imagnet"), "'imagenet'"),
        (lambda: keras_resnet.Plain18(weights="imagenet"), "Nothing is published"),
        (lambda: keras_resnet.ResNet20(weights="imagenet"), "Published for it: cifar10"),
        (lambda: keras_resnet.ResNet20(weights="cifar10", zero_channels="around"), "is for zero_channels='after'"),
        (lambda: keras_resnet.preprocessing_for("resnt50"), "'ResNet50'"),
    ],
)
def test_weights_that_are_not_published_are_refused_before_anything_is_downloaded(call, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        call()
    assert "\n" not in str(error.value)


def test_preprocessing_travels_with_the_weights():
    assert keras_resnet.preprocessing_for("ResNet50").channel_order == "bgr"
    assert keras_resnet.preprocessing_for("ResNet50", "IMAGENET1K_V2").resize == 232
    assert keras_resnet.preprocessing_for("resnet101-d", "ra2_in1k").image_size == 256


@pytest.fixture
def server(tmp_path):
    """Serves a file on loopback: whole, broken off in the middle the first time, or not at all."""
    state = {"content": b"", "asked": 0, "cut": 0, "status": 200}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state["asked"] += 1
            self.send_response(state["status"])
            self.send_header("Content-Length", str(len(state["content"])))
            self.end_headers()
            cut = len(state["content"]) // 2 if state["asked"] <= state["cut"] else None
            self.wfile.write(state["content"][:cut])

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as loopback:
        thread = threading.Thread(target=loopback.serve_forever)
        thread.start()
        yield state, f"http://127.0.0.1:{loopback.server_port}/basic.safetensors"
        loopback.shutdown()
        thread.join()


def published(url, content):
    row = next(row for row in CATALOG if row.network == "ResNet18")
    return Published(**vars(row) | {"url": url, "hash": f"sha256:{hashlib.sha256(content).hexdigest()[:8]}"})


def test_download(server, tmp_path):
    state, url = server
    keras_resnet.weights.save(build(ROWS["basic"]), tmp_path / "basic.safetensors")
    state["content"] = (tmp_path / "basic.safetensors").read_bytes()
    row, cache = published(url, state["content"]), tmp_path / "cache"

    state["cut"] = 1
    with pytest.raises(OSError, match=r"by hand: .*ResNet18-IMAGENET1K_V1-basic\.safetensors"):
        download(row, cache)
    assert not [path for path in cache.rglob("*") if path.is_file()]
    path = download(row, cache)
    assert path.read_bytes() == state["content"]
    assert download(row, cache) == path
    assert state["asked"] == 2  # the third time it lay there

    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="not the published one, and was deleted"):
        download(row, cache)
    assert not path.exists()

    state["status"] = 404
    with pytest.raises(OSError, match=r"404|Not Found"):
        download(row, cache)


def test_without_a_network_the_answer_comes_at_once(tmp_path):
    row = published("http://127.0.0.1:9/basic.safetensors", b"")
    with pytest.raises(OSError, match=r"refused.*by hand"):
        download(row, tmp_path)


def test_paths_and_tags_are_told_apart(tmp_path, monkeypatch):
    assert not any(is_path(tag) for tag in ("imagenet", "IMAGENET1K_V1", "a1_in1k", "cifar10"))
    assert all(is_path(path) for path in ("x.pth", "folder/x", Path("x"), "resnet.tar"))
    with pytest.raises(FileNotFoundError):
        keras_resnet.ResNet20(weights="absent.pth")


@pytest.mark.parametrize(
    ("depth", "file", "error"), [(20, "resnet20-12fca82f.th", 827), (44, "resnet44-014dd654.th", 689)]
)
def test_published_cifar_checkpoints_have_their_error(depth, file, error):
    """Trained by others, in PyTorch: 8.27 % and 6.89 % of the 10,000 test images, to the image."""
    if not (SHARED / "checkpoints" / file).is_file():
        pytest.skip("the published checkpoints do not lie in ../shared/data")
    datasets = pytest.importorskip("tensorflow_datasets")
    test = datasets.load(
        "cifar10", data_dir=SHARED / "tensorflow_datasets", split="test", download=False, batch_size=-1
    )
    model = keras_resnet.get_model(
        f"resnet{depth}", weights=SHARED / "checkpoints" / file, zero_channels="around", classifier_activation=None
    )
    inputs = preprocess_input(np.array(test["image"]), "torch")
    wrong = model.predict(inputs, batch_size=500, verbose=0).argmax(-1) != np.array(test["label"])
    assert (len(wrong), int(wrong.sum())) == (10_000, error)
