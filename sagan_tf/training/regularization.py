"""Regularization of the discriminator: the terms that `SAGAN.compile` adds to its adversarial loss."""

import tensorflow as tf
from keras import ops

from sagan_tf.training.penalties import lazy_gradient_penalty


def lecam_term(gan, real_logit, fake_logit):
    """The LeCam penalty of a SAGAN, whose running means it moves; 0 before its start."""
    logits = [ops.cast(logit, "float32") for logit in (real_logit, fake_logit)]
    is_started = gan.step >= gan.lecam_start_step
    means = update_running_means(gan.lecam_means, *logits, ops.where(is_started, 1.0 - gan.lecam_decay, 1.0))
    return ops.where(is_started, gan.lecam_weight * lecam_penalty(*logits, means), 0.0)


def gradient_term(gan, weight, image, label):
    """The penalty weight / 2 |dD/dx|^2 of a SAGAN: R1 on real images, R2 on generated ones."""
    penalty = lazy_gradient_penalty(gan.discriminator, gan.discriminator_optimizer, image, label, gan.r1_interval)
    return 0.5 * weight * penalty


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
