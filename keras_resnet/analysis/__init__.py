"""What the paper shows of networks and of trainings: cost, responses of the layers, curves; as numbers and pictures."""

from keras_resnet.analysis.curves import Curve, plot_curves, plot_panels, read_curve
from keras_resnet.analysis.networks import class_activation_map, cost, layer_responses, recompute_statistics
from keras_resnet.analysis.pictures import new_figure, plot_explanation, plot_responses, write_picture, write_rows

__all__ = [
    "Curve",
    "class_activation_map",
    "cost",
    "layer_responses",
    "new_figure",
    "plot_curves",
    "plot_explanation",
    "plot_panels",
    "plot_responses",
    "read_curve",
    "recompute_statistics",
    "write_picture",
    "write_rows",
]
