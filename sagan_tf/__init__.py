"""Self-Attention GAN for TensorFlow and Keras. Keras and TensorFlow are imported when a name of it is first used."""

from typing import TYPE_CHECKING

from sagan_tf.utils.lazy import lazy_exports
from sagan_tf.utils.registration import register_with_keras

if TYPE_CHECKING:
    from sagan_tf import layers as layers
    from sagan_tf.config import Config as Config
    from sagan_tf.experiment.start import read_weights as read_weights
    from sagan_tf.experiment.train import train as train
    from sagan_tf.experiment.trained import load_generator as load_generator
    from sagan_tf.experiment.trained import load_run as load_run
    from sagan_tf.experiment.trained import pretrained as pretrained
    from sagan_tf.generation.inversion import invert as invert
    from sagan_tf.networks import build_discriminator as build_discriminator
    from sagan_tf.networks import build_generator as build_generator
    from sagan_tf.training import SAGAN as SAGAN
    from sagan_tf.training import losses as losses

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Config": "sagan_tf.config",
        "SAGAN": "sagan_tf.training",
        "build_discriminator": "sagan_tf.networks",
        "build_generator": "sagan_tf.networks",
        "invert": "sagan_tf.generation.inversion",
        "layers": "sagan_tf.layers",
        "load_generator": "sagan_tf.experiment.trained",
        "load_run": "sagan_tf.experiment.trained",
        "losses": "sagan_tf.training.losses",
        "pretrained": "sagan_tf.experiment.trained",
        "read_weights": "sagan_tf.experiment.start",
        "train": "sagan_tf.train",  # the module of the command, which can be called
    },
)

register_with_keras()
