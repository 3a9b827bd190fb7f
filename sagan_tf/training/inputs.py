"""Checks of what SAGAN is given: networks, batches of real images, latents."""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from sagan_tf.layers import ConditionalBatchNormalization
from sagan_tf.layers.spectral_normalization import normalized_together
from sagan_tf.training.distribution import of_all_replicas

_ROUNDING = 1e-3
_BRIGHT = "Images must be in [-1, 1], but the whole first batch is in [0, 1]. Scale it by `2 * image - 1`."


def call_network(network, x, label, training):
    """Calls a network with `x`, and `label` where there are labels; its power iterations are made together."""
    with normalized_together(network):
        return network(x if label is None else [x, label], training=training)


def call_discriminator(discriminator, image, label, training):
    """Calls a discriminator, as `call_network`; its logits in float32, whatever its own dtype is."""
    return ops.cast(call_network(discriminator, image, label, training), "float32")


def call_with_any_rows(network, inputs, num_replicas):
    """Calls a network as in inference; one of several replicas may get no row of a last batch."""
    if num_replicas == 1:
        return network(inputs, training=False)
    image = network.outputs[0]
    return tf.cond(
        tf.shape(keras.tree.flatten(inputs)[0])[0] > 0,
        lambda: network(inputs, training=False),
        lambda: tf.zeros((0, *image.shape[1:]), image.dtype),  # TensorFlow's convolutions of no row have a wrong shape
    )


def check_pair(generator, discriminator):
    """Checks that the networks can be trained and fit one another: images, and labels for both or neither.

    Args:
        generator, discriminator: Built keras.Models.

    Raises:
        ValueError: A network is not functional, has no trainable weights or several outputs, the generator does not
            take latents first, the discriminator takes other images than the generator makes or makes several logits,
            only one of them takes labels, or they share weights.
    """
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if not getattr(network, "inputs", None):  # of a subclass, or of a Sequential that is not built
            raise ValueError(
                f"The {name} must be a functional keras.Model, or a Sequential one with an Input. "
                f"Received: {network!r}."
            )
        if not network.trainable_weights:
            raise ValueError(f"The {name} has no trainable weights. Set `{name}.trainable = True` before.")
        if len(network.outputs) != 1 or isinstance(network.output, dict):
            raise ValueError(f"The {name} must have one output. Received: {network.output}.")
    if len(generator.inputs[0].shape) != 2:
        shapes = [tuple(tensor.shape) for tensor in generator.inputs]
        raise ValueError(f"The generator must take latent (B, D), or [latent, label (B,)]. Received: inputs {shapes}.")
    made, taken = generator.outputs[0].shape[1:], discriminator.inputs[0].shape[1:]
    if tuple(made) != tuple(taken):
        raise ValueError(
            "The discriminator must take the images of the generator. "
            f"Received: images {tuple(made)} of the generator, {tuple(taken)} of the discriminator."
        )
    logits = tuple(discriminator.outputs[0].shape)
    if len(logits) > 1 and logits[-1] != 1:
        raise ValueError(f"The discriminator must make logits (B, 1), (B,) or (B, ..., 1). Received: {logits}.")
    shared = {id(weight) for weight in generator.weights} & {id(weight) for weight in discriminator.weights}
    if shared:  # a saved model could not be loaded
        paths = [weight.path for weight in generator.weights if id(weight) in shared]
        raise ValueError(f"Generator and discriminator must not share weights. Received: both have {paths}.")
    if len(generator.inputs) != len(discriminator.inputs):
        raise ValueError(
            "Generator and discriminator must both take labels or neither. "
            f"Received: {len(generator.inputs)} and {len(discriminator.inputs)} inputs."
        )


def check_distribution(generator, label_distribution):
    """Checks the probabilities of the K classes.

    Args:
        generator: Built keras.Model.
        label_distribution: K floats >= 0 that sum to 1; None: equal ones.

    Returns:
        Tuple of K floats; None for a generator without labels.

    Raises:
        ValueError: There are probabilities without labels, none for labels of an unknown number of classes, or they are
            not those of the generator's classes.
    """
    if len(generator.inputs) == 1:
        if label_distribution is not None:
            raise ValueError("`label_distribution` was given for a generator without labels.")
        return None
    counts = {layer.num_classes for layer in generator.layers if isinstance(layer, ConditionalBatchNormalization)}
    if label_distribution is None:
        if len(counts) != 1:
            raise ValueError("`label_distribution` is needed: the number of classes cannot be read off the generator.")
        (count,) = counts
        return (1.0 / count,) * count
    distribution = tuple(float(p) for p in label_distribution)
    are_shares = min(distribution, default=-1) >= 0 and abs(sum(distribution) - 1) <= 1e-6  # False for NaN, too
    if (counts and counts != {len(distribution)}) or not are_shares:
        raise ValueError(
            f"`label_distribution` must be probabilities of the generator's classes {sorted(counts)}, summing to 1. "
            f"Received: {len(distribution)} numbers that sum to {sum(distribution)}."
        )
    return distribution


def check_batch(data, image_shape, num_classes, step):
    """Checks a batch of real images. XLA would leave out the checks of values, so call it outside of what XLA compiles.

    Args:
        data: What Keras gives a step: image (B, H, W, C), (image,), (image, label) or (image, label, None). The label
            is (B,) or (B, 1).
        image_shape: (H, W, C).
        num_classes: int, or None for networks without labels, where labels are ignored.
        step: Scalar integer, of the run. The images of step 0 must not all be in [0, 1].

    Returns:
        (image, label): label (B,) int32, or None without classes.

    Raises:
        ValueError: The shape or type of the data is wrong, or they have weights.
        tf.errors.InvalidArgumentError: A value is out of range.
    """
    image, label, weight = keras.utils.unpack_x_y_sample_weight(data)
    if weight is not None:
        raise ValueError(
            "A GAN has no `class_weight` or `sample_weight`: its losses are means over batches. Draw some classes more "
            "often instead: `tf.data.Dataset.sample_from_datasets`, and `label_distribution` of SAGAN."
        )
    if isinstance(image, (tuple, list, dict)):
        raise ValueError("The data set must give the image, or (image, label). Received a structure for the image.")
    image = _check_image(ops.convert_to_tensor(image), tuple(image_shape), step)
    return image, None if num_classes is None else _check_label(label, num_classes)


def check_scale(x):
    """Raises ValueError for data, an array or a `tf.data.Dataset`, whose first images are all in [0, 1]."""
    if isinstance(x, tf.data.Dataset):
        x = next(iter(x.take(1)), None)
    image = x[0] if isinstance(x, (tuple, list)) and x else x
    if isinstance(image, (np.ndarray, tf.Tensor)) and np.size(image):
        low, high = np.min(image), np.max(image)
        if 0 <= low <= high <= 1 and high > 0:
            raise ValueError(f"{_BRIGHT} Received minimum and maximum: {low:.3g}, {high:.3g}.")


def _check_image(image, image_shape, step):
    if not image.dtype.is_floating:
        raise ValueError(
            f"Images must be floats in [-1, 1]. Received: {image.dtype.name}. "
            "Scale 0..255 by `tf.cast(image, tf.float32) / 127.5 - 1`."
        )
    wrong_shape = f"Images must be {image_shape}, as the networks. Received"
    if not image.shape[1:].is_compatible_with(image_shape):
        raise ValueError(f"{wrong_shape}: {tuple(image.shape[1:])}.")
    if not image.shape[1:].is_fully_defined():  # Keras traces a second shape with unknown sizes.
        sizes = tf.shape(image)[1:]
        image = _require(image, [(ops.all(ops.equal(sizes, image_shape)), [f"{wrong_shape} the shape", sizes])])
    image = tf.ensure_shape(image, (None, *image_shape))
    low, high = ops.min(image, initial=1.0), ops.max(image, initial=-1.0)
    return _require(image, [
        ((low >= -1 - _ROUNDING) & (high <= 1 + _ROUNDING), [
            "Images must be in [-1, 1]. Scale 0..255 by `image / 127.5 - 1`. Received minimum and maximum:", low, high
        ]),
        ((low < 0) | (high <= 0) | (step > 0), [
            f"{_BRIGHT} Received minimum and maximum:", low, high
        ]),
    ])  # fmt: skip


def _check_label(label, num_classes):
    if label is None:
        raise ValueError("The networks take labels, so the data set must give (image, label). It gives no labels.")
    label = ops.convert_to_tensor(label)
    if label.shape.rank not in (None, 1) and label.shape[1:] != (1,):
        raise ValueError(
            f"Labels must be integers (B,) or (B, 1). Received: shape {tuple(label.shape)}. "
            "Convert one-hot labels by `tf.argmax(label, axis=-1)`."
        )
    given = ops.reshape(label, (-1,))
    label = ops.cast(given, "int32")
    # A lookup takes -1 for the last class, and the cast 0.5 for 0.
    valid = ops.all((label >= 0) & (label < num_classes) & (ops.cast(label, given.dtype) == given))
    return _require(label, [(valid, [f"Labels must be whole numbers in 0 .. {num_classes - 1}. Received:", given])])


def _require(x, conditions):
    """`x`, after an assertion per (condition, message parts)."""
    with tf.control_dependencies([tf.debugging.Assert(valid, parts) for valid, parts in conditions]):
        return tf.identity(x)


def check_parts(image, d_steps, accumulation_steps):
    """Returns the images of a replica, after checking that the updates of a step can share them equally.

    Call it outside of what XLA compiles, as `check_batch`.

    Args:
        image: Tensor (B, H, W, C); anything else is left to `check_batch`.
        d_steps, accumulation_steps: As in `SAGAN.compile`.

    Raises:
        ValueError: B is 0, or not a multiple of d_steps * accumulation_steps.
        tf.errors.InvalidArgumentError: The same of a B that only the graph knows, or the replicas have parts of
            different sizes, whose mean gradient is not that of the batch.
    """
    if not tf.is_tensor(image) or image.shape.rank == 0:
        return image
    known = None if image.shape.rank is None else image.shape[0]
    size = tf.shape(image)[0] if known is None else known
    is_valid = (size > 0) & (size % (d_steps * accumulation_steps) == 0)
    text = (
        "The batch of a replica must be a multiple of d_steps * accumulation_steps, and not empty. Leave out a smaller "
        f"last batch by `drop_remainder=True`. Received: {d_steps=}, {accumulation_steps=}, batch"
    )
    if known is not None and not is_valid:
        raise ValueError(f"{text} {size}.")
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    if known is not None and not (several and tf.executing_eagerly()):
        return image
    sizes = of_all_replicas(tf.convert_to_tensor(size))
    unequal = "The replicas must have equally many images of a batch. Leave out a smaller last batch by "
    unequal = f"{unequal}`drop_remainder=True`. Received: parts of"
    return _require(image, [(is_valid, [text, size]), (tf.reduce_all(sizes == size), [unequal, sizes])])


def check_latents(inputs, others, latent_dim, num_classes):
    """Checks what a SAGAN generates from: latent (B, D), or [latent, label (B,)]; raises ValueError."""
    if isinstance(inputs, dict) or others:
        received = f"{1 + len(others)} arguments" if others else "a dict"
        raise ValueError(f"A SAGAN takes [latent, label], or the latent alone without classes. Received: {received}.")
    shapes = [tuple(x.shape) for x in (inputs if isinstance(inputs, (tuple, list)) else [inputs])]
    wanted = [(latent_dim,)] if num_classes is None else [(latent_dim,), ()]
    if [shape[1:] for shape in shapes] != wanted or () in shapes:
        described = f"latent (B, {latent_dim})"
        described = described if num_classes is None else f"[{described}, label (B,) in 0 .. {num_classes - 1}]"
        raise ValueError(f"A SAGAN generates images from {described}. Received: shapes {shapes}.")
