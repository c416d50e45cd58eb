"""From a trained network to what serves it: a SavedModel that takes JPEG bytes, TFLite files, ONNX."""
