"""The adversarial game: losses, SAGAN, strategies, callbacks."""

from typing import TYPE_CHECKING

from sagan_tf.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from sagan_tf.training import losses as losses
    from sagan_tf.training.gan import SAGAN as SAGAN

# Lazily: a config needs the ranges of the options of a step, without TensorFlow.
__getattr__, __dir__ = lazy_exports(__name__, {"SAGAN": "sagan_tf.training.gan", "losses": "sagan_tf.training.losses"})
