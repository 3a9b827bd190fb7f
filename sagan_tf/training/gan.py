"""SAGAN as a Keras model: compile, train_step, fit."""

import keras
import tensorflow as tf
from keras import ops

from sagan_tf.accelerate import use_kernels
from sagan_tf.accelerate.selection import kernels_for
from sagan_tf.layers import ConditionalBatchNormalization
from sagan_tf.training import losses
from sagan_tf.training.adam import FusedAdam
from sagan_tf.training.augmentation import UNIFORMS, diff_augment
from sagan_tf.training.distribution import DistributedModel, apply_gradients, check_loss_scaling
from sagan_tf.training.ema import AveragedGenerator
from sagan_tf.training.randomness import StepRandomness

_NORMS = ("d_gradient_norm", "g_gradient_norm")


@keras.saving.register_keras_serializable(package="sagan_tf")
class SAGAN(DistributedModel):
    """Trains a generator against a discriminator; a plain `keras.Model` for `compile`, `fit` and callbacks.

    A step updates the discriminator `d_steps` times, then the generator once, then the averaged generator. The
    discriminator sees real and generated images in one call, so that one power iteration serves both; in the update of
    the generator its u does not change. All random numbers are functions of the seed and the step (`randomness.py`),
    and losses and batch statistics are those of the global batch: a run on several replicas is the same run as on one.
    Build and compile it in the scope of the strategy that it trains under.

    Symbols: B batch, S image size in px, C image channels, D latent dimensions, K classes.

    Args:
        generator: keras.Model: latent (B, D), or [latent, label (B,) int32], to image (B, S, S, C) in [-1, 1].
        discriminator: keras.Model: image, or [image, label], to logit (B, 1).
        ema_decay: float in [0, 1), decay per step of `ema_generator`. None: `ema_generator` is the generator.
        ema_start_step: int >= 0. The first `ema_start_step` steps copy the generator; BigGAN-PyTorch's s is our s - 1.
        label_distribution: Probabilities of the K classes for generated images. None: uniform.
        augmentation: DiffAugment operations on all images that the discriminator sees; see `augmentation.py`.
        seed: int, of latents, labels and augmentation.
    Raises:
        ValueError: The networks do not fit one another, or an argument is out of range.
    Example:
        >>> from sagan_tf.networks import build_discriminator, build_generator
        >>> sizes = dict(image_size=32, channels=8, num_classes=10, attention_sizes=(16,))
        >>> gan = SAGAN(build_generator(**sizes), build_discriminator(**sizes))
        >>> gan.compile()
        >>> images, labels = tf.zeros((8, 32, 32, 3)), tf.zeros((8,), tf.int32)
        >>> history = gan.fit(tf.data.Dataset.from_tensors((images, labels)), verbose=0)
    Source: Zhang et al. 2019, https://arxiv.org/abs/1805.08318; EMA as in BigGAN, Brock et al. 2019.
    """

    def __init__(
        self,
        generator,
        discriminator,
        ema_decay=0.9999,
        ema_start_step=0,
        label_distribution=None,
        augmentation=(),
        seed=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_pair(generator, discriminator)
        self.generator = generator
        self.discriminator = discriminator
        self._average = None if ema_decay is None else AveragedGenerator(generator, ema_decay, ema_start_step)
        self.ema_generator = generator if self._average is None else self._average.model
        self.label_distribution = check_distribution(generator, label_distribution)
        self.augmentation = tuple(augmentation)
        self.seed = seed
        self.step = self.add_weight(name="step", shape=(), dtype="int64", initializer="zeros", trainable=False)
        names = ("d_loss", "g_loss", "real_logit", "fake_logit", "d_accuracy", "r1", *_NORMS)
        self._means = {name: keras.metrics.Mean(name=name) for name in names}
        self.built = True

    @property
    def latent_dim(self):
        """Dimensions of the latent."""
        return self.generator.inputs[0].shape[-1]

    @property
    def num_classes(self):
        """Classes, or None without labels."""
        return None if self.label_distribution is None else len(self.label_distribution)

    @property
    def trainable_variables(self):
        """Those of the generator and the discriminator; the averaged generator only follows."""
        return self.generator.trainable_variables + self.discriminator.trainable_variables

    @property
    def trainable_weights(self):
        """As `trainable_variables`."""
        return self.trainable_variables

    @property
    def metrics(self):
        """Means since the last reset: losses, logits, accuracy of the discriminator, R1 if used, gradient norms.

        There are no gradient norms on several replicas, each of which knows only its own share of the gradient.
        """
        left_out = [] if getattr(self, "r1_weight", 0) else ["r1"]
        if self.distribute_strategy.num_replicas_in_sync > 1:
            left_out += _NORMS
        return [mean for name, mean in self._means.items() if name not in left_out]

    def compile(
        self,
        generator_optimizer=None,
        discriminator_optimizer=None,
        loss="hinge",
        d_steps=1,
        accumulation_steps=1,
        r1_weight=0.0,
        r1_interval=1,
        share_fake_batch=False,
        jit_compile=False,
        native_operations=False,
        **kwargs,
    ):
        """Sets the optimizers, the loss and the shape of a step.

        Args:
            generator_optimizer: Keras optimizer. None: Adam(1e-4, beta_1=0, beta_2=0.9), as in the paper.
            discriminator_optimizer: Keras optimizer. None: Adam(4e-4, beta_1=0, beta_2=0.9) (TTUR).
            loss: Name among `losses.LOSSES`, or an `AdversarialLoss`.
            d_steps: int >= 1. Discriminator updates per step.
            accumulation_steps: int >= 1. Batches whose gradients are averaged for one update.
            r1_weight: float >= 0. Weight of the R1 penalty |dD/dx|^2 / 2 on real images (Mescheder et al. 2018).
            r1_interval: int >= 1. Discriminator updates from one penalty to the next; its weight is multiplied by it.
            share_fake_batch: bool. Update the generator with the images that the last discriminator update saw, instead
                of new ones: one forward pass of the generator fewer per step, and one update of its batch statistics
                and its u. Needs `accumulation_steps` 1.
            jit_compile: bool. Compile the step with XLA, on one replica.
            native_operations: bool. Use compiled kernels (`accelerate.compiled`) in bfloat16 on a CPU with one replica.
                They are compiled now, unless they have been before.
            **kwargs: `steps_per_execution` and `run_eagerly`, as in Keras.

        Raises:
            ValueError: An argument is out of range.
            UserError: The kernels cannot be compiled on this machine.
        """
        super().compile(optimizer=None, loss=None, jit_compile=jit_compile, **kwargs)
        for name, value in (
            ("d_steps", d_steps), ("accumulation_steps", accumulation_steps), ("r1_interval", r1_interval)
        ):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` must be an integer >= 1. Received: {name}={value!r}.")
        if not r1_weight >= 0:
            raise ValueError(f"`r1_weight` must be >= 0. Received: {r1_weight=}.")
        if share_fake_batch and accumulation_steps > 1:
            raise ValueError(f"`share_fake_batch` needs `accumulation_steps` 1. Received: {accumulation_steps=}.")
        self.generator_optimizer = generator_optimizer or FusedAdam(1e-4, beta_1=0.0, beta_2=0.9)
        self.discriminator_optimizer = discriminator_optimizer or FusedAdam(4e-4, beta_1=0.0, beta_2=0.9)
        check_loss_scaling(self.distribute_strategy, self.generator_optimizer, self.discriminator_optimizer)
        # Built now, so that a checkpoint finds the slots.
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)
        self.adversarial_loss = losses.get(loss)
        self.d_steps, self.accumulation_steps = d_steps, accumulation_steps
        self.r1_weight, self.r1_interval = r1_weight, r1_interval
        if native_operations and jit_compile:
            raise ValueError(
                "XLA cannot compile `native_operations`. Received: native_operations=True, jit_compile=True."
            )
        self.share_fake_batch = share_fake_batch
        self.native_operations = native_operations
        kernels_for(self.distribute_strategy, native_operations)  # compiles them now, where it may fail

    def call(self, inputs, training=False):
        """Generates images by the averaged generator: latent (B, D), or [latent, label], to (B, S, S, C)."""
        return self.ema_generator(inputs, training=False)

    def train_step(self, data):
        """Makes one training step.

        Args:
            data: (image (B, S, S, C) in [-1, 1], label (B,)), or the image alone, with B a multiple of d_steps *
                accumulation_steps: each update sees an equal part.

        Returns:
            dict of the means of the metrics, scalars.
        """
        with use_kernels(kernels_for(self.distribute_strategy, self.native_operations)):
            return self._step(data)

    def _step(self, data):
        batches = [(image, self._check_labels(label)) for image, label in self._split(data)]
        with tf.control_dependencies([batches[0][0]]):
            # Read after the batch, so that no step is counted where a data set of unknown length ends.
            randomness = StepRandomness(self.seed, tf.identity(self.step))
        rows = ops.shape(batches[0][0])[0]
        fake = tape = None
        for i in range(self.d_steps):
            part = range(i * self.accumulation_steps, (i + 1) * self.accumulation_steps)
            if self.share_fake_batch and i == self.d_steps - 1:
                with tf.GradientTape() as tape:
                    fake = self._generate(rows, randomness, f"discriminator/{part[0]}")
            loss, norm = apply_gradients(
                self.discriminator_optimizer,
                lambda j: self._discriminator_loss(*batches[j], randomness, f"discriminator/{j}", fake),
                part,
                self.discriminator.trainable_variables,
            )
            self._record_update("d", loss, norm)
        with tf.control_dependencies([loss if norm is None else norm]):
            loss, norm = apply_gradients(
                self.generator_optimizer,
                lambda j: self._generator_loss(rows, randomness, f"generator/{j}", fake),
                range(self.accumulation_steps),
                self.generator.trainable_variables,
                tape,
            )
        self._record_update("g", loss, norm)
        if self._average is not None:
            self._average.update(self.step)
        self.step.assign_add(1)
        return self.get_metrics_result()

    def _split(self, data):
        """Splits a batch into the batches of the updates, a list of (image, label or None)."""
        image, label = data if isinstance(data, (tuple, list)) and len(data) == 2 else (data, None)
        image = image[0] if isinstance(image, (tuple, list)) else image
        if label is None and self.num_classes is not None:
            raise ValueError("The networks take labels, so the data set must give (image, label). It gives no labels.")
        label = None if self.num_classes is None else ops.cast(ops.reshape(label, (-1,)), "int32")
        count = self.d_steps * self.accumulation_steps
        if image.shape[0] is not None and image.shape[0] % count:
            raise ValueError(
                "The batch of a replica must be a multiple of d_steps * accumulation_steps. "
                f"Received: batch {image.shape[0]}, d_steps={self.d_steps}, "
                f"accumulation_steps={self.accumulation_steps}."
            )
        # Interleaved: each update sees the same images on any number of replicas.
        return [(image[i::count], None if label is None else label[i::count]) for i in range(count)]

    def _check_labels(self, label):
        if label is None:
            return None
        # A lookup takes -1 for the last class. XLA leaves the assertion out.
        valid = ops.all((label >= 0) & (label < self.num_classes))
        message = f"Labels must be in 0 .. {self.num_classes - 1}. Received:"
        with tf.control_dependencies([tf.debugging.Assert(valid, [message, label])]):
            return tf.identity(label)

    def _draw(self, rows, randomness, purpose):
        latent = randomness.normal(f"{purpose}/latent", rows, self.latent_dim)
        if self.num_classes is None:
            return latent, None
        return latent, randomness.labels(f"{purpose}/label", rows, self.label_distribution)

    def _generate(self, rows, randomness, purpose):
        latent, label = self._draw(rows, randomness, purpose)
        return self.generator(with_label(latent, label), training=True), label

    def _augment(self, image, randomness, purpose):
        if not self.augmentation:
            return image
        uniforms = randomness.uniform(f"{purpose}/augmentation", ops.shape(image)[0], UNIFORMS)
        return diff_augment(image, uniforms, self.augmentation)

    def _discriminator_loss(self, real, label, randomness, purpose, fake=None):
        fake, fake_label = fake or self._generate(ops.shape(real)[0], randomness, purpose)
        # No gradient flows to the generator.
        fake = ops.stop_gradient(fake)
        real = self._augment(ops.cast(real, fake.dtype), randomness, f"{purpose}/real")
        fake = self._augment(fake, randomness, f"{purpose}/fake")
        image = ops.concatenate([real, fake], axis=0)
        labels = None if label is None else ops.concatenate([label, fake_label], axis=0)
        logit = self.discriminator(with_label(image, labels), training=True)
        real_logit, fake_logit = ops.split(logit, 2, axis=0)
        self._record_logits(real_logit, fake_logit)
        loss = self.adversarial_loss.discriminator(real_logit, fake_logit)
        return loss + self._r1_penalty(real, label) if self.r1_weight else loss

    def _record_update(self, letter, loss, norm):
        self._means[f"{letter}_loss"].update_state(loss)
        if norm is not None:
            self._means[f"{letter}_gradient_norm"].update_state(norm)

    def _record_logits(self, real_logit, fake_logit):
        self._means["real_logit"].update_state(real_logit)
        self._means["fake_logit"].update_state(fake_logit)
        right = ops.concatenate([real_logit > 0, fake_logit < 0], axis=0)
        self._means["d_accuracy"].update_state(ops.cast(right, "float32"))

    def _r1_penalty(self, real, label):
        """r1_weight / 2 * mean |dD(x)/dx|^2 (Mescheder et al. 2018, equation 9), lazily as in StyleGAN2."""

        def penalty():
            with tf.GradientTape() as tape:
                tape.watch(real)
                logit = self.discriminator(with_label(real, label), training=False)
            gradient = ops.cast(tape.gradient(logit, real), "float32")
            square = ops.mean(ops.sum(ops.square(gradient), axis=(1, 2, 3)))
            return 0.5 * self.r1_weight * self.r1_interval * square

        if self.r1_interval == 1:
            value = penalty()
        else:
            due = self.discriminator_optimizer.iterations % self.r1_interval == 0
            value = tf.cond(due, penalty, lambda: tf.constant(0.0))
        self._means["r1"].update_state(value)
        return value

    def _generator_loss(self, rows, randomness, purpose, fake=None):
        image, label = fake or self._generate(rows, randomness, purpose)
        image = self._augment(image, randomness, purpose)
        # training=False: u stays as the update of the discriminator left it.
        logit = self.discriminator(with_label(image, label), training=False)
        return self.adversarial_loss.generator(logit)


def with_label(x, label):
    """Joins the inputs of a network: `x` alone where there are no labels."""
    return x if label is None else [x, label]


def check_pair(generator, discriminator):
    """Checks that the networks can be trained and fit one another: images, and labels for both or neither."""
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        if not network.trainable_weights:
            raise ValueError(f"The {name} has no trainable weights. Set `{name}.trainable = True` before.")
    made, taken = generator.outputs[0].shape[1:], discriminator.inputs[0].shape[1:]
    if tuple(made) != tuple(taken):
        raise ValueError(
            "The discriminator must take the images of the generator. "
            f"Received: images {tuple(made)} of the generator, {tuple(taken)} of the discriminator."
        )
    if len(generator.inputs) != len(discriminator.inputs):
        raise ValueError(
            "Generator and discriminator must both take labels or neither. "
            f"Received: {len(generator.inputs)} and {len(discriminator.inputs)} inputs."
        )


def check_distribution(generator, label_distribution):
    """Returns the probabilities of the K classes, uniform by default; None for a generator without labels."""
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
    if (counts and counts != {len(distribution)}) or min(distribution) < 0 or abs(sum(distribution) - 1) > 1e-6:
        raise ValueError(
            f"`label_distribution` must be probabilities of the generator's classes {sorted(counts)}, summing to 1. "
            f"Received: {len(distribution)} numbers that sum to {sum(distribution)}."
        )
    return distribution
