"""SAGAN as a Keras model: compile, train_step, test_step, saving."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from sagan_tf.accelerate import use_kernels
from sagan_tf.accelerate.selection import kernels_for
from sagan_tf.networks.freezing import freeze_blocks, unfrozen
from sagan_tf.training import losses
from sagan_tf.training.adam import FusedAdam
from sagan_tf.training.adaptive_augmentation import check_adaptive
from sagan_tf.training.augmentation import check_operations
from sagan_tf.training.batch_statistics import has_global_statistics
from sagan_tf.training.distributed_model import DistributedModel
from sagan_tf.training.distribution import check_clipping, of_all_replicas, resolve_jit_compile, xla_obstacle
from sagan_tf.training.ema import AveragedGenerator
from sagan_tf.training.inputs import (
    call_discriminator,
    call_network,
    call_with_any_rows,
    check_batch,
    check_distribution,
    check_latents,
    check_pair,
    check_parts,
    check_scale,
)
from sagan_tf.training.loss_scale import with_loss_scaling
from sagan_tf.training.randomness import StepRandomness
from sagan_tf.training.step import draw_inputs, update_networks
from sagan_tf.training.step_metrics import EVALUATED, make_means, record_logits, used_means
from sagan_tf.training.step_options import STEP_OPTIONS, check_step_options
from sagan_tf.training.transfer import Transfer, Weights, take_weights
from sagan_tf.training.two_optimizers import TwoOptimizers

_SAVED_OPTIONS = (*STEP_OPTIONS, "native_operations", "steps_per_execution", "run_eagerly")


@keras.saving.register_keras_serializable(package="sagan_tf")
class SAGAN(DistributedModel):
    """Trains a generator against a discriminator; a plain `keras.Model` for `compile`, `fit`, `save` and callbacks.

    A step updates the discriminator `d_steps` times, then the generator once, then the averaged generator. The
    discriminator sees real and generated images in one call, so that one power iteration serves both; in the update of
    the generator its u does not change. All random numbers are functions of the seed and the step (`randomness.py`),
    and losses and batch statistics are those of the global batch: a run on several replicas is the same run as on one.
    Build and compile it in the scope of the strategy that it trains under.

    Symbols: B batch, H, W height and width of an image in px, C image channels, D latent dimensions, K classes.

    Args:
        generator: keras.Model: latent (B, D), or [latent, label (B,) int32], to image (B, H, W, C) in [-1, 1].
        discriminator: keras.Model: image, or [image, label], to logit (B, 1).
        ema_decay: float in [0, 1), decay per step of `ema_generator`. None: `ema_generator` is the generator.
        ema_start_step: int >= 0. The first `ema_start_step` steps copy the generator; BigGAN-PyTorch's s is our s - 1.
        label_distribution: Probabilities of the K classes for generated images. None: uniform.
        augmentation: DiffAugment operations on all images that the discriminator sees; see `augmentation.py`.
        seed: int, of latents, labels and augmentation.
        frozen_generator_blocks: int >= 0. Last blocks of the generator that are not trained; see `freeze_blocks`.
        frozen_discriminator_blocks: int >= 0. First blocks of the discriminator that are not trained (FreezeD).

    Raises:
        ValueError: The networks do not fit one another, or an argument is out of range.

    Example:
        >>> from sagan_tf.networks import build_discriminator, build_generator
        >>> sizes = dict(image_size=32, channels=8, num_classes=10, attention_sizes=(16,))
        >>> gan = SAGAN(build_generator(**sizes), build_discriminator(**sizes))
        >>> gan.compile()
        >>> images, labels = tf.zeros((8, 32, 32, 3)), tf.zeros((8,), tf.int32)
        >>> history = gan.fit(tf.data.Dataset.from_tensors((images, labels)), verbose=0)
        >>> gan([tf.random.normal((4, 128)), tf.constant([0, 1, 2, 3])]).shape  # by `ema_generator`
        TensorShape([4, 32, 32, 3])

    Source: Zhang et al. 2019, https://arxiv.org/abs/1805.08318; EMA as in BigGAN, Brock et al. 2019.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        ema_decay: float | None = 0.9999,
        ema_start_step: int = 0,
        label_distribution: Sequence[float] | None = None,
        augmentation: Sequence[str] = (),
        seed: int = 0,
        frozen_generator_blocks: int = 0,
        frozen_discriminator_blocks: int = 0,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        # Set where the images are known to be scaled: all of a first batch may be above the middle gray.
        self.accepts_bright_batches = False
        # Function of (uint8 images, `StepRandomness`) that returns images in [-1, 1]. None: `fit` refuses uint8.
        self.prepare_images = None
        check_pair(generator, discriminator)
        self.generator = generator
        self.discriminator = discriminator
        self._average = None if ema_decay is None else AveragedGenerator(generator, ema_decay, ema_start_step)
        self.ema_generator = generator if self._average is None else self._average.model
        self.frozen_generator_blocks = frozen_generator_blocks
        self.frozen_discriminator_blocks = frozen_discriminator_blocks
        # After the averaged generator was copied: it is saved, and must not be frozen.
        freeze_blocks(generator, frozen_generator_blocks, "generator")
        freeze_blocks(discriminator, frozen_discriminator_blocks, "discriminator")
        self.label_distribution = check_distribution(generator, label_distribution)
        self.augmentation = check_operations(augmentation)
        self.seed = seed
        self.step = self.add_weight(name="step", shape=(), dtype="int64", initializer="zeros", trainable=False)
        state = dict(dtype="float32", initializer="zeros", trainable=False)  # under any global policy
        self.lecam_means = self.add_weight(name="lecam_means", shape=(2,), **state)
        self.ada_p = self.add_weight(name="ada_p", shape=(), **state)
        self.ada_signs = self.add_weight(name="ada_signs", shape=(2,), **state)  # sum since p moved, number of batches
        self._means = make_means()
        self.built = True

    @property
    def latent_dim(self) -> int:
        """Dimensions of the latent."""
        return self.generator.inputs[0].shape[-1]

    @property
    def num_classes(self) -> int | None:
        """Classes, or None without labels."""
        return None if self.label_distribution is None else len(self.label_distribution)

    @property
    def trainable_variables(self):
        """Those of the generator and the discriminator; the averaged generator only follows."""
        return self.generator.trainable_variables + self.discriminator.trainable_variables

    trainable_weights = trainable_variables

    @property
    def non_trainable_weights(self):
        """All others, the averaged generator among them."""
        trained = {id(weight) for weight in self.trainable_weights}
        return [weight for weight in self.weights if id(weight) not in trained]

    @property
    def metrics(self):
        """Means over updates since the last reset: losses, logits, accuracy of the discriminator, penalties in use.

        Also gradient norms, on one replica: each of several knows only its own share of the gradient. With dynamic loss
        scaling also the shares of skipped updates, which the other means leave out.
        """
        return used_means(self, self._means)

    def compile(
        self,
        generator_optimizer: str | keras.optimizers.Optimizer | None = None,
        discriminator_optimizer: str | keras.optimizers.Optimizer | None = None,
        loss: str | losses.AdversarialLoss = "hinge",
        d_steps: int = 1,
        accumulation_steps: int = 1,
        r1_weight: float = 0.0,
        r2_weight: float = 0.0,
        r1_interval: int = 1,
        lecam_weight: float = 0.0,
        lecam_decay: float = 0.99,
        lecam_start_step: int = 1000,
        consistency_real_weight: float = 0.0,
        consistency_fake_weight: float = 0.0,
        ada_target: float = 0.0,
        ada_images: int = 500_000,
        share_fake_batch: bool = False,
        jit_compile: bool | str = "auto",
        native_operations: bool = False,
        steps_per_execution: int = 1,
        run_eagerly: bool = False,
    ) -> None:
        """Sets the optimizers, with dynamic loss scaling in float16, the loss and the shape of a step.

        Args:
            generator_optimizer: Keras optimizer or its name. None: Adam(1e-4, beta_1=0, beta_2=0.9), as in the paper.
            discriminator_optimizer: Keras optimizer or its name. None: Adam(4e-4, beta_1=0, beta_2=0.9) (TTUR).
            loss: Name among `losses.LOSSES`, or an `AdversarialLoss`.
            d_steps: int >= 1. Discriminator updates per step.
            accumulation_steps: int >= 1. Batches whose gradients are averaged for one update.
            r1_weight: float >= 0. Weight of the R1 penalty |dD/dx|^2 / 2 on real images (Mescheder et al. 2018).
            r2_weight: float >= 0. Weight of R2, the same penalty on generated images (Huang et al. 2024: as R1).
            r1_interval: int >= 1. Discriminator updates from one R1 and R2 to the next; multiplies both weights.
            lecam_weight: float >= 0. Weight of the LeCam penalty of logits (Tseng et al. 2021: 0.3).
            lecam_decay: float in [0, 1), decay per discriminator update of its running means of logits.
            lecam_start_step: int >= 1. Steps without the penalty; its means are those of the batch until then.
            consistency_real_weight: float >= 0. Weight of balanced consistency regularization on real images: the
                squared change of the logit when the image is flipped and moved (Zhao et al. 2021: 10).
            consistency_fake_weight: float >= 0. The same on generated images (10 too).
            ada_target: float in [0, 1). Mean sign of real logits at which ADA, instead of `augmentation`, holds the
                probability of its changes (Karras et al. 2020: 0.6); see `adaptive_augmentation.py`. 0: no ADA.
            ada_images: int >= 1. Real images that move the probability from 0 to 1 (Karras et al. 2020: 500,000).
            share_fake_batch: bool. Update the generator with the images that the last discriminator update saw, instead
                of new ones: one forward pass of the generator fewer per step, and one update of its batch statistics
                and its u. Needs `accumulation_steps` 1.
            jit_compile: bool, or `auto`: True on a GPU. Compile the step with XLA. On several replicas it compiles
                forward pass, loss and gradients, and needs networks of `batch_statistics="local"`, no LeCam, no ADA.
            native_operations: bool. Use compiled kernels (`accelerate.compiled`) in bfloat16 on a CPU with one replica.
                They are compiled now, unless they have been before.
            steps_per_execution: int >= 1, as in Keras.
            run_eagerly: bool, as in Keras.

        Raises:
            ValueError: An argument is out of range, XLA cannot compile the step, or an optimizer clips gradients on
                several replicas.
            UserError: The kernels cannot be compiled on this machine.
        """
        arguments = locals()
        options = {name: arguments[name] for name in STEP_OPTIONS}
        self.jit_compile_choice = jit_compile
        jit_compile = self._resolve_jit_compile(jit_compile, native_operations or run_eagerly, lecam_weight, ada_target)
        check_step_options(options)
        if native_operations and jit_compile:
            raise ValueError("XLA cannot compile `native_operations`. Received: True for both.")
        super().compile(None, jit_compile=jit_compile, steps_per_execution=steps_per_execution, run_eagerly=run_eagerly)
        generator_optimizer = generator_optimizer or FusedAdam(1e-4, beta_1=0.0, beta_2=0.9)
        discriminator_optimizer = discriminator_optimizer or FusedAdam(4e-4, beta_1=0.0, beta_2=0.9)
        if generator_optimizer is discriminator_optimizer and not isinstance(generator_optimizer, str):
            raise ValueError("Each network needs an optimizer of its own. Received the same object twice.")
        networks = self.generator, self.discriminator
        self.generator_optimizer = with_loss_scaling(keras.optimizers.get(generator_optimizer), networks)
        self.discriminator_optimizer = with_loss_scaling(keras.optimizers.get(discriminator_optimizer), networks)
        check_clipping(self.distribute_strategy, self.generator_optimizer, self.discriminator_optimizer)
        # Built now, so that a checkpoint finds the slots.
        self.generator_optimizer.build(self.generator.trainable_variables)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)
        self.optimizer = TwoOptimizers(self.generator_optimizer, self.discriminator_optimizer)
        self.adversarial_loss = losses.get(loss)
        check_adaptive(ada_target, self.adversarial_loss, self.augmentation)
        for name, value in options.items():
            setattr(self, name, value)
        self.native_operations = native_operations
        kernels_for(self.distribute_strategy, native_operations)  # compiles them now, where it may fail

    def _resolve_jit_compile(self, choice, is_excluded, *penalties):
        if choice == "auto" and is_excluded:
            return False
        is_global = has_global_statistics(self.generator) or has_global_statistics(self.discriminator)
        return resolve_jit_compile(choice, xla_obstacle(self.distribute_strategy, is_global, *penalties))

    def load_weights_from(
        self,
        source: keras.Model | Weights,
        class_names: Sequence[str] | None = None,
        new_classes: str = "mean",
    ) -> Transfer:
        """Takes over the weights of other networks that fit, to start training from them; the step stays as it is.

        Blocks and layers of the same name are taken as a whole, with u and batch statistics, if all shapes agree; for
        another image size also blocks as far from the output as here. Kernels are divided by sigma where only the
        source does so at each call. Class tables are taken by the name of the class, or by number where a side does not
        name its classes and there are equally many. The rest stays as it was drawn.

        Args:
            source: `SAGAN`; generator, which the averaged one takes too; or `Weights`, see `sagan_tf.read_weights`.
            class_names: Names of the K classes in the order of their labels.
            new_classes: `mean`: classes that the source lacks start from the mean of its classes; `random`: as drawn.

        Returns:
            `Transfer`: what was taken, left and is new, as lists, and as a table when printed.

        Raises:
            TypeError: `source` is something else.
            ValueError: Nothing fits, only one side has classes, or two of the same name; no weight has changed.
        """
        weights = source if isinstance(source, Weights) else Weights.of(source)
        return take_weights(self, weights, class_names, new_classes)

    def call(self, inputs, *others, training=False):
        """Generates images by the averaged generator: latent (B, D), or [latent, label (B,)], to (B, H, W, C)."""
        check_latents(inputs, others, self.latent_dim, self.num_classes)
        return call_with_any_rows(self.ema_generator, inputs, self.distribute_strategy.num_replicas_in_sync)

    def export(self, *args, **kwargs):
        """As `keras.Model.export`, of the averaged generator."""
        return self.ema_generator.export(*args, **kwargs)

    def fit(self, x=None, *args, **kwargs):
        """As `keras.Model.fit`; raises ValueError for images that are all in [0, 1]."""
        self._check_scale(x)
        history = super().fit(x, *args, **kwargs)
        self.optimizer.finalize(self.generator, self.discriminator)
        return history

    def evaluate(self, x=None, *args, **kwargs):
        """As `keras.Model.evaluate`; raises ValueError for images that are all in [0, 1]."""
        self._check_scale(x)
        return super().evaluate(x, *args, **kwargs)

    def _check_scale(self, x):
        # At step 0 the step itself checks its batch, which may cost a data set much to make.
        if not self.accepts_bright_batches and int(self.step.numpy()) > 0:
            check_scale(x)

    def prepare_batch(self, data):
        """Checks the size of a batch, and maps uint8 images to [-1, 1] by `prepare_images`, where it is set."""
        image, *others = data if isinstance(data, (tuple, list)) else (data,)
        image = check_parts(image, self.d_steps, self.accumulation_steps)
        if self.prepare_images is not None and getattr(image, "dtype", None) == tf.uint8:
            image = self.prepare_images(image, StepRandomness(self.seed, self.step))
        return (image, *others)

    def check_batch(self, data):
        """Checks a batch of real images and returns (image, label or None), see `inputs.check_batch`."""
        step = 1 if self.accepts_bright_batches else self.step
        return check_batch(data, self.discriminator.inputs[0].shape[1:], self.num_classes, step)

    def train_step(self, data: tuple[Any, Any]) -> dict[str, Any]:
        """Makes one training step.

        Args:
            data: (image (B, H, W, C) in [-1, 1], label (B,) int32 or None) of `check_batch`, with B a multiple of
                d_steps * accumulation_steps: each update sees an equal part.

        Returns:
            dict of the means of the metrics, scalars.
        """
        with use_kernels(kernels_for(self.distribute_strategy, self.native_operations, self.jit_compile)):
            is_applied = update_networks(self, data)
            if self._average is not None:
                self._average.update(self.step, is_applied)
            self.step.assign_add(1)
            return self.get_metrics_result()

    def test_step(self, data: tuple[Any, Any]) -> dict[str, Any]:
        """Measures losses, logits and accuracy on held-out images; changes nothing but the metrics.

        Both networks run as in inference, without augmentation. The latents are functions of the seed and of the number
        of images since the metrics were reset, so evaluations of two models or at two steps are comparable.

        Args:
            data: As in `train_step`, with any B.

        Returns:
            dict of the means of the metrics, scalars.
        """
        # The last batch may be smaller or empty on a replica.
        rows = of_all_replicas(tf.shape(data[0])[0])
        seen = tf.reduce_sum(of_all_replicas(tf.identity(self._means["real_logit"].count)))
        randomness = StepRandomness(self.seed, seen, replica_rows=rows)
        tf.cond(tf.shape(data[0])[0] > 0, lambda: self._measure(*data, randomness), lambda: False)
        return {name: self._means[name].result() for name in EVALUATED}

    def _measure(self, image, label, randomness):
        latent, fake_label = draw_inputs(self, ops.shape(image)[0], randomness, "evaluation", label)
        fake = call_network(self.generator, latent, fake_label, training=False)
        pairs = (ops.cast(image, fake.dtype), label), (fake, fake_label)
        loss, logits = self.adversarial_loss, [call_discriminator(self.discriminator, *pair, False) for pair in pairs]
        means = {"d_loss": loss.discriminator(*logits), "g_loss": loss.generator_loss(*logits)}
        self.record(means, weight=ops.shape(image)[0])
        record_logits(self, *logits)
        return True

    def record(self, values, weight=None):
        """Adds values to means of metrics: dict, name -> value; `weight` counts a value as that many."""
        for name, value in values.items():
            self._means[name].update_state(value, sample_weight=weight)

    def get_config(self):
        return {
            **super().get_config(),
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "ema_decay": None if self._average is None else self._average.decay,
            "ema_start_step": 0 if self._average is None else self._average.start_step,
            "label_distribution": self.label_distribution,
            "augmentation": list(self.augmentation),
            "seed": self.seed,
            "frozen_generator_blocks": self.frozen_generator_blocks,
            "frozen_discriminator_blocks": self.frozen_discriminator_blocks,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        names = ("generator", "discriminator")
        networks = {name: keras.saving.deserialize_keras_object(config[name], custom_objects) for name in names}
        with unfrozen(networks.values()):  # if frozen before it was saved; the constructor refuses it
            return cls(**{**config, **networks})

    def get_compile_config(self):
        """Serializes the arguments of `compile`; Keras saves them with the model."""
        if not self.compiled:
            return {}
        loss = self.adversarial_loss
        return keras.saving.serialize_keras_object(
            {
                "generator_optimizer": self.generator_optimizer,
                "discriminator_optimizer": self.discriminator_optimizer,
                "loss": loss.name if losses.LOSSES.get(loss.name) is loss else loss,
                "jit_compile": self.jit_compile_choice,
                **{name: getattr(self, name) for name in _SAVED_OPTIONS},
            }
        )

    def compile_from_config(self, config):
        """Compiles the model by what `get_compile_config` returned; Keras then loads the optimizers' slots."""
        self.compile(**keras.saving.deserialize_keras_object(config))
