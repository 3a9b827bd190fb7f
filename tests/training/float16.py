"""A SAGAN of four layers, traced in a second, and images of which one can overflow float16."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from sagan_tf.layers import BatchNormalization, Conv2D, SpectralNormalization
from sagan_tf.training import SAGAN
from sagan_tf.training.losses import AdversarialLoss, hinge_discriminator_loss, hinge_generator_loss

SIZE = (4, 4, 3)


def make_small(
    dtype="mixed_float16", optimizer=keras.optimizers.SGD, rate=0.1, loss=None, synchronized=True, augmentation=(),
    **options,
):  # fmt: skip
    keras.utils.set_random_seed(0)
    latent, image = keras.Input((4,)), keras.Input(SIZE)
    x = SpectralNormalization(keras.layers.Dense(48, dtype=dtype, name="dense"), name="d")(latent)
    x = BatchNormalization(dtype=dtype, name="norm", synchronized=synchronized)(keras.layers.Reshape(SIZE)(x))
    generator = keras.Model(latent, keras.layers.Activation("tanh", dtype="float32")(x))
    x = SpectralNormalization(Conv2D(8, 3, padding="same", dtype=dtype, name="conv"), name="c")(image)
    logit = keras.layers.Dense(1, dtype=dtype, name="logit")(keras.layers.Flatten()(keras.layers.ReLU()(x)))
    # An image of ones has a logit of 10 more.
    bright = ops.max(ops.relu(ops.mean(image, axis=(1, 2)) - 0.9), axis=-1, keepdims=True)
    discriminator = keras.Model(image, ops.cast(logit, "float32") + 100 * bright)
    gan = SAGAN(generator, discriminator, ema_decay=0.5, augmentation=augmentation)
    gan.compile(optimizer(rate), optimizer(4 * rate), loss=loss or SCALED_HINGE, **options)
    return gan


def _overflowing_loss(real_logit, fake_logit):
    """The hinge loss, with a slope for an image of ones that overflows float16 from a loss scale of 1 on."""
    return hinge_discriminator_loss(real_logit, fake_logit) + 1e6 * ops.mean(ops.relu(real_logit - 6))


OVERFLOWING = AdversarialLoss("overflowing", _overflowing_loss, hinge_generator_loss)
# Its gradients are zero in float16 without a loss scale.
SCALED_HINGE = AdversarialLoss(
    "scaled", lambda *logits: 1e-6 * hinge_discriminator_loss(*logits), lambda logit: 1e-6 * hinge_generator_loss(logit)
)


def make_images(steps=3, bright=None):
    """`steps` batches of 8 images; that at index `bright` is of ones."""
    images = np.random.default_rng(0).uniform(-1, 1, (8 * steps, *SIZE)).astype("float32")
    if bright is not None:
        images[bright] = 1
    return tf.data.Dataset.from_tensor_slices(images).batch(8, drop_remainder=True)


def state(gan, slots=True):
    """Networks, average and slots, without scales, counters and step: list of arrays."""
    optimizers = (gan.generator_optimizer, gan.discriminator_optimizer) if slots else ()
    inner = [getattr(one, "inner_optimizer", one) for one in optimizers]
    networks = gan.generator, gan.discriminator, gan.ema_generator
    return [np.array(v) for part in (*networks, *inner) for v in getattr(part, "weights", part.variables)]


def scaling_state(gan):
    """Scale, steps since its last change and skipped steps, of the discriminator and the generator: (2, 3)."""
    optimizers = gan.discriminator_optimizer, gan.generator_optimizer
    names = "dynamic_scale", "step_counter", "skipped_steps"
    return np.array([[float(getattr(one, name).numpy()) for name in names] for one in optimizers])
