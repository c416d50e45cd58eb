"""Deep residual networks (He et al. 2015) in Keras."""

from keras_resnet._version import __version__ as __version__
