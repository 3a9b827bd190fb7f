"""Self-Attention GAN for TensorFlow and Keras. Importing it registers the layers, so that `load_model` finds them."""

__version__ = "0.1.0"

from sagan_tf import layers as layers
