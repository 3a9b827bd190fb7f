"""Regularization of the discriminator by its logits, for small data sets."""

import tensorflow as tf
from keras import ops


def lecam_penalty(real_logit, fake_logit, means):
    """mean(max(0, D(x) - a_fake)^2) + mean(max(0, a_real - D(G(z)))^2), a the running means of the logits.

    Args:
        real_logit: (B, 1), logits of real images.
        fake_logit: (B, 1), logits of generated images.
        means: (2,), running means of the logits of real and of generated images.

    Returns:
        Scalar, 0 or more.

    Source: Tseng et al. 2021, https://arxiv.org/abs/2104.03310, equation 3, with the max of the authors' code.
    """
    real, fake = (ops.mean(ops.square(ops.relu(x))) for x in (real_logit - means[1], means[0] - fake_logit))
    return real + fake


def update_running_means(means, real_logit, fake_logit, rate):
    """Moves running means of logits, a variable (2,), by `rate` towards those of the global batch; returns them."""
    batch = ops.stop_gradient(ops.stack([ops.mean(real_logit), ops.mean(fake_logit)]))
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        batch = tf.distribute.get_replica_context().all_reduce("MEAN", batch)
    means.assign(means + rate * (batch - means))
    return ops.convert_to_tensor(means)
