"""Gradient penalties of the discriminator."""

import tensorflow as tf
from keras import ops

from sagan_tf.training.inputs import call_network


def mean_squared_gradient(discriminator, image, label, scale=1.0):
    """Mean over images of |dD(x)/dx|^2 (Mescheder et al. 2018, equation 9); can be differentiated.

    Args:
        discriminator: keras.Model; in its inference mode, so its u does not change.
        image: (B, H, W, C).
        label: (B,), or None without labels.
        scale: Factor on the logits while the gradient is computed, against underflow; the result does not depend on it.

    Returns:
        Scalar, float32.
    """
    with tf.GradientTape() as tape:
        tape.watch(image)
        logit = scale * call_network(discriminator, image, label, training=False)
    gradient = ops.cast(tape.gradient(logit, image), "float32") / scale
    return ops.mean(ops.sum(ops.square(gradient), axis=(1, 2, 3)))
