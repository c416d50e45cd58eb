"""Live against PyTorch, where it is installed: `tox -e peers`. Full-size networks, saved and opened on either side."""

import keras
import numpy as np
import pytest
from golden.recipe import CLASSES, images

import keras_resnet
from keras_resnet.architectures import NAMED
from keras_resnet.weights.readers import read

torch = pytest.importorskip("torch", reason="PyTorch is not installed: tox -e peers")
if keras.backend.backend() == "tensorflow":
    pytest.skip("two frameworks in one process: KERAS_BACKEND=torch", allow_module_level=True)

from golden import make  # noqa: E402 - needs torch and timm

LAYOUTS = {"V2": "timm_v2", "RS50": "timm_d", "50D": "timm_d", "SEResNet50": "timm"}
NETWORKS = ["ResNet18", "ResNet34", "ResNet50", "ResNet101", "ResNet152", "ResNeXt50_32x4d", "WideResNet50_2"]
NETWORKS += ["ResNet50D", "SEResNet50", "ResNet50V2", "ResNetRS50"]


@pytest.mark.parametrize("network", NETWORKS)
def test_there_and_back(network, tmp_path):
    name, create = next((names[network], create) for names, create in make.SOURCES.values() if network in names)
    torch_model = create(name, num_classes=CLASSES)
    expected = np.array(make.logits(torch_model))
    settings = {} if NAMED[network].block == "basic" else {"stride_on": "3x3"}
    arguments = {"classes": CLASSES, "input_shape": (None, None, 3), "classifier_activation": None, **settings}
    for ending, save in make.SAVERS.items():
        path = tmp_path / f"{network}{ending}"
        save(torch_model.state_dict(), path)
        ours = keras_resnet.get_model(network, weights=path, **arguments)
        path.unlink()
    answer = keras.ops.convert_to_numpy(ours(images(), training=False))
    assert np.abs(answer - expected).max() <= 1e-4 * np.abs(expected).max()

    layout = next((layout for ending, layout in LAYOUTS.items() if network.endswith(ending)), "torchvision")
    back = tmp_path / "back.safetensors"
    keras_resnet.weights.save(ours, back, names=layout)
    fresh = create(name, num_classes=CLASSES)
    state = {key: torch.from_numpy(value) for key, value in read(back).items()}
    fresh.load_state_dict(state)
    for key, value in torch_model.state_dict().items():
        assert "num_batches" in key or torch.equal(fresh.state_dict()[key], value), key
