"""The metrics of a SAGAN: means over updates."""

import keras
from keras import ops

from sagan_tf.training.loss_scale import loss_scaling_optimizers

EVALUATED = ("d_loss", "g_loss", "real_logit", "fake_logit", "d_accuracy")
PENALTIES = ("r1", "r2", "lecam", "consistency")  # in `d_loss`
# The same, and ADA, each with the arguments of `compile` that turn it on.
_OPTIONAL = {
    "r1": ("r1_weight",), "r2": ("r2_weight",), "lecam": ("lecam_weight",),
    "consistency": ("consistency_real_weight", "consistency_fake_weight"),
    "ada_p": ("ada_target",), "ada_sign": ("ada_target",),
}  # fmt: skip
_NORMS = ("d_gradient_norm", "g_gradient_norm")
_SKIPPED = ("d_skipped", "g_skipped")


def make_means():
    """Makes the means of all metrics: dict, name -> keras.metrics.Mean."""
    return {name: keras.metrics.Mean(name=name) for name in (*EVALUATED, *_OPTIONAL, *_NORMS, *_SKIPPED)}


def used_means(gan, means):
    """Lists the means that a SAGAN, compiled or not, updates."""
    left_out = [name for name, options in _OPTIONAL.items() if not any(getattr(gan, o, 0) for o in options)]
    left_out += () if loss_scaling_optimizers(gan) else _SKIPPED
    if gan.distribute_strategy.num_replicas_in_sync > 1:
        left_out += _NORMS
    return [mean for name, mean in means.items() if name not in left_out]


def record_logits(gan, real_logit, fake_logit):
    """Records the logits of a batch, and how many have the right sign; of a relativistic loss, how many differences.

    0 counts as half right: a discriminator that gives all images the same logit guesses.
    """
    if gan.adversarial_loss.relativistic:
        margins = real_logit - fake_logit
    else:
        margins = ops.concatenate([real_logit, -fake_logit], axis=0)
    gan.record({"real_logit": real_logit, "fake_logit": fake_logit, "d_accuracy": (ops.sign(margins) + 1.0) / 2.0})


def record_update(gan, letter, loss, norm, skipped):
    """Records an update of network `d` or `g`, or undoes one that was skipped; returns whether it was applied."""
    gan.record({f"{letter}_loss": loss})
    if norm is not None:
        gan.record({f"{letter}_gradient_norm": norm})
    is_applied = skipped.undo()
    if is_applied is not True:
        gan.record({f"{letter}_skipped": 1.0 - ops.cast(is_applied, "float32")})
    return is_applied
