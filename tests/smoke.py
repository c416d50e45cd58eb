"""Each way of use of the installed package, once and small, as somebody does who has no checkout of it.

tox -e py311-wheel,py313-wheel
"""

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

import keras_resnet
from keras_resnet.cards import open_model
from keras_resnet.classifiers import classify_image, open_classifier
from keras_resnet.data import demo
from keras_resnet.data.sources import open_source
from keras_resnet.evaluation import evaluate
from keras_resnet.export.run import export
from keras_resnet.training.config import Config
from keras_resnet.training.loop import train

warnings.filterwarnings("error", category=DeprecationWarning, module=r"keras_resnet(\.|$)")

CHECKOUT = Path(__file__).parents[1]
CLASSES = ("checks", "discs", "waves")
PHOTOGRAPHS, MODEL, EXPORTED = Path("photographs"), Path("run/model.keras"), Path("exported")


def is_installed():
    """It is the installed package that this script tries, and its commands run."""
    assert Path(keras_resnet.__file__).parents[1] != CHECKOUT, keras_resnet.__file__
    table = subprocess.run([sys.executable, "-m", "keras_resnet"], capture_output=True, text=True, check=True).stdout
    assert "ResNet1202" in table


def builds_and_predicts():
    """A network with random weights names what it sees."""
    model = keras_resnet.ResNet18(weights=None)
    pictures = keras_resnet.preprocess_input(np.zeros((2, 224, 224, 3), "uint8"))
    named = keras_resnet.decode_predictions(model.predict(pictures, verbose=0), top=3)
    assert [len(best) for best in named] == [3, 3]


def saves_and_loads_weights():
    """Weights written under others' names give the same network."""
    model, picture = keras_resnet.ResNet20(), np.ones((1, 32, 32, 3), "float32")
    for name in ("torchvision.safetensors", "keras.weights.h5"):
        keras_resnet.weights.save(model, name)
        again = keras_resnet.ResNet20(weights=name)
        np.testing.assert_array_equal(again.predict(picture, verbose=0), model.predict(picture, verbose=0))


def trains():
    """A folder of photographs makes a network with its card."""
    for split, count in {"train": 8, "val": 4}.items():
        for name in CLASSES:
            folder = PHOTOGRAPHS / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture = demo.draw(demo.CLASS_NAMES.index(name), np.random.default_rng((number, count)))
                (folder / f"{number}.jpg").write_bytes(tf.io.encode_jpeg(picture).numpy())
    config = Config(model="ResNet20", dataset=str(PHOTOGRAPHS), image_size=32, batch_size=8, steps=6)
    train(config, MODEL.parent, verbose=0)
    _, card = open_model(str(MODEL))
    assert card.class_names == CLASSES


def exports():
    """Each file that is exported answers as the network does, or `export` fails."""
    formats = ("saved_model", "tflite") if importlib.util.find_spec("ai_edge_litert") else ("saved_model",)
    rows = export(*open_model(str(MODEL)), EXPORTED, formats)
    assert [row["file"] for row in rows[1:]] == ["saved_model/1", "resnet20.tflite"][: len(formats)]


def evaluates_and_classifies():
    """The network and what was exported are tested in the same way."""
    source = open_source(str(PHOTOGRAPHS), "validation")
    picture = next(PHOTOGRAPHS.glob("val/discs/*.jpg")).read_bytes()
    for path in (MODEL, EXPORTED / "saved_model", *EXPORTED.glob("*.tflite")):
        classifier = open_classifier(str(path))
        assert evaluate(classifier, source, batch_size=4).summary()["images"] == 12
        assert classifier.class_names == CLASSES
        assert abs(classify_image(classifier, picture).sum() - 1) < 1e-3


STEPS = (is_installed, builds_and_predicts, saves_and_loads_weights, trains, exports, evaluates_and_classifies)

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for step in STEPS:
            step()
            print(f"{step.__name__.replace('_', ' ')}: well", flush=True)
