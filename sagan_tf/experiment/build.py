"""Builds what a config describes: the networks, SAGAN and its optimizers."""

import functools

import keras

from sagan_tf.data.sources import class_distribution
from sagan_tf.experiment.precision import native_precision
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.training import SAGAN
from sagan_tf.training.adam import FusedAdam
from sagan_tf.training.preparation import prepare_images
from sagan_tf.training.schedules import WarmupAndDecay
from sagan_tf.training.step_options import STEP_OPTIONS


def build_gan(config, source, rate_factor=1.0):
    """Builds and compiles the SAGAN of a config; `rate_factor` multiplies the learning rates."""
    training, hardware = config.training, config.hardware
    keras.utils.set_random_seed(training.seed)
    generator, discriminator = build_networks(config, source.num_classes)
    from_data = training.fake_labels == "data" and source.num_classes is not None
    gan = SAGAN(
        generator,
        discriminator,
        ema_decay=training.ema_decay,
        ema_start_step=training.ema_start_step,
        label_distribution=class_distribution(source) if from_data else None,
        augmentation=training.augmentation,
        seed=training.seed,
        frozen_generator_blocks=config.generator.frozen_blocks,
        frozen_discriminator_blocks=config.discriminator.frozen_blocks,
    )
    gan.accepts_bright_batches = True  # the pipeline delivers uint8
    gan.prepare_images = functools.partial(prepare_images, flip=config.data.flip, dequantize=config.data.dequantize)
    gan.compile(
        make_optimizer(config.generator_optimizer, training.steps, rate_factor),
        make_optimizer(config.discriminator_optimizer, training.steps * training.d_steps, rate_factor),
        loss=training.loss,
        **{name: getattr(training, name) for name in STEP_OPTIONS},
        jit_compile=hardware.jit_compile,
        native_operations=hardware.native_operations,
        steps_per_execution=hardware.steps_per_execution,
    )
    return gan


def build_networks(config, num_classes):
    """Builds the generator and the discriminator of a config; `num_classes` is None without labels."""
    generator, discriminator = network_options(config, num_classes)
    return build_generator(**generator), build_discriminator(**discriminator)


def network_options(config, num_classes):
    """Keyword arguments of `build_generator` and of `build_discriminator`, two dicts."""
    options = {name: value for name, value in vars(config.attention).items() if name != "block"}
    hardware = config.hardware
    shared = dict(
        image_size=config.data.image_shape[:2],
        image_channels=config.data.image_channels,
        num_classes=num_classes,
        attention_block=config.attention.block,
        attention_options=options,
        dtype=native_precision(hardware.distribution)[0] if hardware.precision == "auto" else hardware.precision,
    )
    return shared | _architecture(config.generator), shared | _architecture(config.discriminator)


def _architecture(network):
    """The arguments of a network's builder."""
    return {name: value for name, value in vars(network).items() if name != "frozen_blocks"}


def make_optimizer(options, steps, rate_factor=1.0):
    """Makes Adam and its schedule from an `OptimizerConfig`; a decay ends after `steps` optimizer steps."""
    rate, final = options.learning_rate * rate_factor, options.final_learning_rate * rate_factor
    # A short trial with the config of a long run ends before the decay starts.
    schedule = options.schedule if options.decay_start_step < steps else "constant"
    if schedule != "constant" or options.warmup_steps:
        end = max(steps, options.decay_start_step + 1)
        rate = WarmupAndDecay(rate, schedule, options.warmup_steps, options.decay_start_step, end, final)
    return FusedAdam(rate, beta_1=options.beta_1, beta_2=options.beta_2, epsilon=options.epsilon)
