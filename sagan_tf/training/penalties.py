"""Gradient penalties of the discriminator."""

import tensorflow as tf
from keras import ops

from sagan_tf.training.inputs import with_label
from sagan_tf.training.loss_scale import inner_loss_scale


def lazy_gradient_penalty(discriminator, optimizer, image, label, interval):
    """`mean_squared_gradient` times `interval` where the steps of the optimizer are a multiple of it, else 0.

    Source: Karras et al. 2020 (StyleGAN2), lazy regularization.
    """

    def penalty():
        return interval * mean_squared_gradient(discriminator, image, label, inner_loss_scale(optimizer))

    if interval == 1:
        return penalty()
    return tf.cond(optimizer.iterations % interval == 0, penalty, lambda: tf.constant(0.0))


def mean_squared_gradient(discriminator, image, label, scale=1.0):
    """Mean over images of |dD(x)/dx|^2 (Mescheder et al. 2018, equation 9); can be differentiated.

    Args:
        discriminator: keras.Model; in its inference mode, so its u does not change.
        image: (B, S, S, C).
        label: (B,), or None without labels.
        scale: Factor on the logits while the gradient is computed, against underflow; the result does not depend on it.

    Returns:
        Scalar, float32.
    """
    with tf.GradientTape() as tape:
        tape.watch(image)
        logit = scale * discriminator(with_label(image, label), training=False)
    gradient = ops.cast(tape.gradient(logit, image), "float32") / scale
    return ops.mean(ops.sum(ops.square(gradient), axis=(1, 2, 3)))
