"""Regularization of the discriminator: the terms that `SAGAN.compile` adds to its adversarial loss."""

import tensorflow as tf
from keras import ops

from sagan_tf.training.augmentation import flip_and_translate
from sagan_tf.training.distribution import mean_over_replicas
from sagan_tf.training.inputs import call_discriminator
from sagan_tf.training.loss_scale import inner_loss_scale
from sagan_tf.training.updates import LazyTerms


def logit_terms(gan, logits):
    """Computes the terms of logits.

    Args:
        gan: SAGAN, compiled.
        logits: List of (B, 1): of real, of generated, and of further images of `with_augmented`.

    Returns:
        dict, name of the metric -> scalar.
    """
    terms = {}
    if len(logits) > 2:
        terms["consistency"] = consistency_term(gan, logits)
    if gan.lecam_weight:
        terms["lecam"] = lecam_term(gan, *logits[:2])
    return terms


def gradient_terms(gan, real, fake):
    """Computes the terms of gradients, R1 on real and R2 on generated images, times their interval.

    Args:
        gan: SAGAN, compiled.
        real: (image (B, H, W, C), label (B,) or None), real images as the discriminator sees them.
        fake: As `real`, of generated images.

    Returns:
        dict, name of the metric -> scalar.
    """
    used = (("r1", gan.r1_weight, real), ("r2", gan.r2_weight, fake))
    return {name: gan.r1_interval * gradient_term(gan, weight, *images) for name, weight, images in used if weight}


def lazy_gradient_terms(gan, real, fake):
    """`gradient_terms` as `LazyTerms`, of every `gan.r1_interval`-th update; None if all updates have them, or none.

    Source: Karras et al. 2020 (StyleGAN2), lazy regularization.
    """
    names = [name for name, weight in (("r1", gan.r1_weight), ("r2", gan.r2_weight)) if weight]
    if not names or gan.r1_interval == 1:
        return None
    is_due = gan.discriminator_optimizer.iterations % gan.r1_interval == 0
    return LazyTerms(
        is_due,
        len(names),
        lambda: list(gradient_terms(gan, real, fake).values()),
        lambda terms: gan.record(dict(zip(names, terms))),
    )


def with_augmented(gan, images, labels, randomness, purpose):
    """Appends augmented copies of real and generated images, and their labels, where consistency has a weight.

    Source: Zhao et al. 2021 (bCR-GAN), https://arxiv.org/abs/2002.04724, algorithm 1.
    """
    images, labels = list(images), list(labels)
    for i in _consistency_weights(gan):
        uniforms = randomness.uniform(f"{purpose}/consistency/{i}", ops.shape(images[i])[0], 3)
        images.append(flip_and_translate(images[i], uniforms))
        labels.append(labels[i])
    return images, labels


def consistency_term(gan, logits):
    """Sum over real (0) and generated (1) images of weight * mean((D(x) - D(T(x)))^2), T the change."""
    weights, changed = _consistency_weights(gan), logits[2:]
    return sum(weight * ops.mean(ops.square(logits[i] - x)) for (i, weight), x in zip(weights.items(), changed))


def _consistency_weights(gan):
    weights = gan.consistency_real_weight, gan.consistency_fake_weight
    return {i: weight for i, weight in enumerate(weights) if weight}


def lecam_term(gan, real_logit, fake_logit):
    """The LeCam penalty of a SAGAN, whose running means it moves; 0 before its start."""
    is_started = gan.step >= gan.lecam_start_step
    rate = 1.0 - gan.lecam_decay ** (1 / gan.accumulation_steps)  # of each batch of an update
    means = update_running_means(gan.lecam_means, real_logit, fake_logit, ops.where(is_started, rate, 1.0))
    return ops.where(is_started, gan.lecam_weight * lecam_penalty(real_logit, fake_logit, means), 0.0)


def gradient_term(gan, weight, image, label):
    """The penalty weight / 2 |dD/dx|^2 of a SAGAN."""
    scale = inner_loss_scale(gan.discriminator_optimizer)
    return 0.5 * weight * mean_squared_gradient(gan.discriminator, image, label, scale)


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
        logit = scale * call_discriminator(discriminator, image, label, training=False)
    gradient = ops.cast(tape.gradient(logit, image), "float32") / scale
    return ops.mean(ops.sum(ops.square(gradient), axis=(1, 2, 3)))


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
    """Moves running means of logits, a variable (2,), by `rate` toward those of the global batch; returns them."""
    batch = ops.stop_gradient(ops.stack([ops.mean(real_logit), ops.mean(fake_logit)]))
    batch = mean_over_replicas(batch)
    means.assign(means + rate * (batch - means))
    return ops.convert_to_tensor(means)
