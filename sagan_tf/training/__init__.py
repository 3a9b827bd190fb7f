"""The adversarial game: losses, SAGAN, strategies, callbacks."""

from sagan_tf.training import losses as losses
from sagan_tf.training.gan import SAGAN as SAGAN
