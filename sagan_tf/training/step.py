"""The updates of a `SAGAN` in a training step: of the discriminator, then of the generator.

On one replica XLA compiles all of it (`DistributedModel`); on several the gradients of each update, because it cannot
compile what the replicas exchange. It compiles one update of each network, whatever `d_steps` is.
"""

import tensorflow as tf
from keras import ops

from sagan_tf.training.adaptive_augmentation import adapt_probability, augment
from sagan_tf.training.augmentation import UNIFORMS, diff_augment
from sagan_tf.training.batch_statistics import average_local_statistics
from sagan_tf.training.inputs import call_discriminator, call_network, check_parts
from sagan_tf.training.loss_scale import SkippedStep
from sagan_tf.training.randomness import StepRandomness
from sagan_tf.training.regularization import gradient_terms, lazy_gradient_terms, logit_terms, with_augmented
from sagan_tf.training.step_metrics import record_logits, record_update
from sagan_tf.training.updates import apply_gradients, mean_gradients


def update_networks(gan, data):
    """Updates the discriminator `d_steps` times, then the generator once.

    Args:
        gan: SAGAN, compiled.
        data: (image (B, H, W, C), label (B,) or None), as in `SAGAN.train_step`.

    Returns:
        True or scalar tensor, whether the update of the generator was applied; in float16 it may be skipped.
    """
    batches = StepBatches(data, gan.d_steps, gan.accumulation_steps)
    with tf.control_dependencies([batches[0][0]]):
        # Read after the batch, so that no step is counted where a data set of unknown length ends.
        randomness = StepRandomness(gan.seed, tf.identity(gan.step), gan.jit_compile)
    fake = tape = skipped = None
    updates = range(gan.d_steps)
    if gan.share_fake_batch:
        last = _update_discriminator(gan, updates[:-1], batches, randomness) if gan.d_steps > 1 else 0.0
        with tf.control_dependencies([last]), tf.GradientTape() as tape:
            skipped = SkippedStep(gan.discriminator_optimizer, _moving_variables(gan))
            fake = _compiled(gan, lambda: _generate_batch(gan, updates[-1], batches, randomness))()
        updates = updates[-1:]
    last = _update_discriminator(gan, updates, batches, randomness, fake, skipped)
    with tf.control_dependencies([last]):
        is_applied = _update_generator(gan, batches, randomness, fake, tape)
    average_local_statistics(gan.generator)
    average_local_statistics(gan.discriminator)
    return is_applied


class StepBatches:
    """The batches of the discriminator's updates in a step.

    `batches[i]` is (image, label or None), for i an int or a scalar integer tensor.

    Args:
        data: (image (B, H, W, C), label (B,) or None).
        d_steps, accumulation_steps: As in `SAGAN.compile`; each update has an equal part of each replica's images.
    """

    def __init__(self, data, d_steps, accumulation_steps):
        if data[0].shape[0] is not None:  # of a step that is called by itself; `fit` has checked the others
            check_parts(data[0], d_steps, accumulation_steps)
        self._data = data
        self.count = d_steps * accumulation_steps

    def __getitem__(self, i):
        return tuple(None if x is None else self._part(x, i) for x in self._data)

    def _part(self, x, i):
        # Interleaved: each update sees the same images on any number of replicas.
        if isinstance(i, int):
            return x[i :: self.count]
        return tf.gather(tf.reshape(x, (-1, self.count, *x.shape[1:])), i, axis=1)


def _update_discriminator(gan, updates, batches, randomness, fake=None, skipped=None):
    """Makes the updates of a range; returns a scalar of the last one.

    Args:
        updates: range.
        batches: `StepBatches`.
        randomness: `StepRandomness`.
        fake: (image, label), generated images of a single update. None: the updates generate their own.
        skipped: `SkippedStep` of before `fake` was generated.
    """
    optimizer, variables = gan.discriminator_optimizer, gan.discriminator.trainable_variables

    def loss_of_batch(i):
        own = randomness.of_batch(i, batches.count)
        return discriminator_loss(gan, *batches[i], own, "discriminator/{}", fake)

    def gradients_of(update):
        first, count = update * gan.accumulation_steps, gan.accumulation_steps
        return mean_gradients(optimizer, lambda i: loss_of_batch(first + i), count, variables, None, gan.jit_compile)

    compiled_gradients_of = _compiled(gan, gradients_of)  # once for all updates

    def make(update):
        undo = skipped or SkippedStep(optimizer, _moving_variables(gan))
        loss, gradients = compiled_gradients_of(update)
        norm = apply_gradients(optimizer, gradients, variables)
        record_update(gan, "d", loss, norm, undo)
        return loss if norm is None else norm

    if gan.jit_compile and len(updates) > 1:
        if gan.distribute_strategy.num_replicas_in_sync == 1:
            return tf.while_loop(lambda i, _: i < len(updates), lambda i, _: (i + 1, make(i)), (0, 0.0))[1]
        updates = [tf.constant(update) for update in updates]  # an int would be compiled anew for each
    return [make(update) for update in updates][-1]


def _update_generator(gan, batches, randomness, fake, tape):
    """Makes the update, on images of its own if `fake` is None; returns whether it was applied."""
    optimizer, variables = gan.generator_optimizer, gan.generator.trainable_variables
    count = gan.accumulation_steps

    def loss_of_batch(i):
        # The real images are those of the last update of the discriminator.
        real = batches[batches.count - count + i]
        return generator_loss(gan, *real, randomness.of_batch(i, count), "generator/{}", fake)

    skipped = SkippedStep(optimizer, _moving_variables(gan))
    if tape is None:
        loss, gradients = _compiled(
            gan, lambda: mean_gradients(optimizer, loss_of_batch, count, variables, None, gan.jit_compile)
        )()
    else:  # the tape cannot enter a function that is compiled apart
        loss, gradients = mean_gradients(optimizer, _compiled(gan, loss_of_batch), count, variables, tape)
    norm = apply_gradients(optimizer, gradients, variables)
    return record_update(gan, "g", loss, norm, skipped)


def _generate_batch(gan, i, batches, randomness):
    """The generated images, and their labels, of an update of the discriminator without accumulation."""
    image, label = batches[i]
    own = randomness.of_batch(i, batches.count)
    return generate(gan, tf.shape(image)[0], own, "discriminator/{}", label)


def _moving_variables(gan):
    """What an update moves besides weights, slots and average."""
    networks = gan.generator.non_trainable_weights + gan.discriminator.non_trainable_weights
    means = [variable for mean in gan.metrics for variable in mean.variables]
    lecam = [gan.lecam_means] if gan.lecam_weight else []
    return networks + means + lecam + ([gan.ada_p, gan.ada_signs] if gan.ada_target else [])


def _compiled(gan, function):
    """A function that XLA compiles, where it does not compile the whole step anyway."""
    if not gan.jit_compile or gan.distribute_strategy.num_replicas_in_sync == 1:
        return function
    return tf.function(function, jit_compile=True, autograph=False)


def discriminator_loss(gan, real, label, randomness, purpose, fake=None):
    """Computes the loss of the discriminator on a batch, and records its metrics.

    Args:
        gan: SAGAN, compiled.
        real: (B, H, W, C) in [-1, 1], real images.
        label: (B,) int32, or None without labels.
        randomness: `StepRandomness`.
        purpose: str, prefix of the streams of random numbers.
        fake: (image, label), as of `generate`. None: as many as real ones are generated.

    Returns:
        (loss, lazy): scalar, and `LazyTerms` of it or None, as `mean_gradients` takes them.
    """
    fake, fake_label = fake or generate(gan, ops.shape(real)[0], randomness, purpose, label)
    # No gradient flows to the generator.
    fake = ops.stop_gradient(fake)
    real = _augment(gan, ops.cast(real, fake.dtype), randomness, f"{purpose}/real")
    fake = _augment(gan, fake, randomness, f"{purpose}/fake")
    images, labels = with_augmented(gan, [real, fake], [label, fake_label], randomness, purpose)
    labels = None if label is None else ops.concatenate(labels, axis=0)
    logit = call_discriminator(gan.discriminator, ops.concatenate(images, axis=0), labels, training=True)
    penalties = _layer_losses(gan.discriminator)  # before another call
    logits = ops.split(logit, len(images), axis=0)
    record_logits(gan, *logits[:2])
    if gan.ada_target:
        adapt_probability(gan, logits[0])
    loss = gan.adversarial_loss.discriminator(*logits[:2])
    pair = (real, label), (fake, fake_label)
    terms = logit_terms(gan, logits) | (gradient_terms(gan, *pair) if gan.r1_interval == 1 else {})
    gan.record(terms)
    return sum([*terms.values(), *penalties], loss), lazy_gradient_terms(gan, *pair)


def generator_loss(gan, real, real_label, randomness, purpose, fake=None):
    """Computes the loss of the generator on a batch; arguments and result as those of `discriminator_loss`."""
    image, label = fake or generate(gan, ops.shape(real)[0], randomness, purpose, real_label)
    image = _augment(gan, image, randomness, purpose)
    # training=False: u stays as the update of the discriminator left it.
    logit = call_discriminator(gan.discriminator, image, label, training=False)
    real_logit = None
    if gan.adversarial_loss.relativistic:
        real = _augment(gan, ops.cast(real, image.dtype), randomness, f"{purpose}/real")
        real_logit = ops.stop_gradient(call_discriminator(gan.discriminator, real, real_label, training=False))
    loss = gan.adversarial_loss.generator_loss(real_logit, logit)
    return sum(_layer_losses(gan.generator), loss), None


def draw_inputs(gan, rows, randomness, purpose, real_label):
    """Draws (latent, label) for the generator; a relativistic loss compares images of the same label, `real_label`."""
    latent = randomness.normal(f"{purpose}/latent", rows, gan.latent_dim)
    if gan.num_classes is None or gan.adversarial_loss.relativistic:
        return latent, real_label
    return latent, randomness.labels(f"{purpose}/label", rows, gan.label_distribution)


def generate(gan, rows, randomness, purpose, real_label):
    """Generates images for a training step: (image, label), from what `draw_inputs` draws."""
    latent, label = draw_inputs(gan, rows, randomness, purpose, real_label)
    return call_network(gan.generator, latent, label, training=True), label


def _layer_losses(network):
    """Losses that the layers of a network added in its latest call, and those of its regularizers."""
    return [ops.cast(loss, "float32") for loss in network.losses]


def _augment(gan, image, randomness, purpose):
    if gan.ada_target:
        return augment(gan, image, randomness, purpose)
    if not gan.augmentation:
        return image
    uniforms = randomness.uniform(f"{purpose}/augmentation", ops.shape(image)[0], UNIFORMS)
    return diff_augment(image, uniforms, gan.augmentation)
