"""MediaPipe's ImageClassifier opens the files and answers with names: `tox -e mobile`."""

import numpy as np
import pytest
from networks import small

from keras_resnet.export.compare import classifier, pictures
from keras_resnet.export.tflite import QUANTIZATIONS, export_tflite

mediapipe = pytest.importorskip("mediapipe", reason="MediaPipe has an environment of its own: tox -e mobile")


@pytest.mark.parametrize(
    "quantize, settings", [*((name, {}) for name in QUANTIZATIONS), ("int8", {"uint8_output": True})]
)
def test_it_answers_with_names(quantize, settings, tmp_path):
    from mediapipe.tasks.python import BaseOptions, vision

    model, card = small()
    images = pictures(card, 4)
    export_tflite(model, card, tmp_path / "x.tflite", quantize, calibration=pictures(card, 32), **settings)
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(tmp_path / "x.tflite")))
    tolerance = {"none": 1e-3, "float16": 1e-2}.get(quantize, 0.2)
    with vision.ImageClassifier.create_from_options(options) as opened:
        for image, wanted in zip(images, classifier(model, card)(images)):
            answer = opened.classify(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
            categories = answer.classifications[0].categories
            scores = {category.category_name: category.score for category in categories}
            assert set(scores) <= set(card.class_names)
            received = np.array([scores.get(name, 0.0) for name in card.class_names])
            np.testing.assert_allclose(received, wanted, atol=tolerance)
            if tolerance < 0.1:
                assert categories[0].category_name == card.class_names[wanted.argmax()]
