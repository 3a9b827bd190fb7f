"""The updates of a training step, as they are or compiled by XLA."""

import tensorflow as tf

from sagan_tf.training.batch_statistics import average_local_statistics
from sagan_tf.training.inputs import StepBatches, check_parts
from sagan_tf.training.loss_scale import SkippedStep
from sagan_tf.training.randomness import StepRandomness
from sagan_tf.training.serialization import SerializableModel
from sagan_tf.training.step_metrics import record_update
from sagan_tf.training.updates import apply_gradients, mean_gradients


class SteppingModel(SerializableModel):
    """The part of `SAGAN` that makes the updates of a step.

    On one replica XLA compiles all of it (`DistributedModel`); on several the gradients of each update, because it
    cannot compile what the replicas exchange. It compiles one update of each network, whatever `d_steps` is.
    """

    def prepare_batch(self, data):
        """Checks the size of a batch, and maps uint8 images to [-1, 1] by `prepare_images`, where it is set."""
        image, *others = data if isinstance(data, (tuple, list)) else (data,)
        image = check_parts(image, self.d_steps, self.accumulation_steps)
        if self.prepare_images is not None and getattr(image, "dtype", None) == tf.uint8:
            image = self.prepare_images(image, StepRandomness(self.seed, self.step))
        return (image, *others)

    def _step(self, data):
        batches = StepBatches(data, self.d_steps, self.accumulation_steps)
        with tf.control_dependencies([batches[0][0]]):
            # Read after the batch, so that no step is counted where a data set of unknown length ends.
            randomness = StepRandomness(self.seed, tf.identity(self.step), self.jit_compile)
        fake = tape = skipped = None
        updates = range(self.d_steps)
        if self.share_fake_batch:
            last = self._update_discriminator(updates[:-1], batches, randomness) if self.d_steps > 1 else 0.0
            with tf.control_dependencies([last]), tf.GradientTape() as tape:
                skipped = SkippedStep(self.discriminator_optimizer, self._moving_variables())
                fake = self._compiled(lambda: self._generate_batch(updates[-1], batches, randomness))()
            updates = updates[-1:]
        last = self._update_discriminator(updates, batches, randomness, fake, skipped)
        with tf.control_dependencies([last]):
            is_applied = self._update_generator(batches, randomness, fake, tape)
        average_local_statistics(self.generator)
        average_local_statistics(self.discriminator)
        if self._average is not None:
            self._average.update(self.step, is_applied)
        self.step.assign_add(1)

    def _update_discriminator(self, updates, batches, randomness, fake=None, skipped=None):
        """Makes the updates of a range; returns a scalar of the last one.

        Args:
            updates: range.
            batches: `StepBatches`.
            randomness: `StepRandomness`.
            fake: (image, label), generated images of a single update. None: the updates generate their own.
            skipped: `SkippedStep` of before `fake` was generated.
        """
        optimizer, variables = self.discriminator_optimizer, self.discriminator.trainable_variables

        def loss_of_batch(i):
            own = randomness.of_batch(i, batches.count)
            return self._discriminator_loss(*batches[i], own, "discriminator/{}", fake)

        @self._compiled
        def gradients_of(update):
            first, count = update * self.accumulation_steps, self.accumulation_steps
            return mean_gradients(
                optimizer, lambda i: loss_of_batch(first + i), count, variables, None, self.jit_compile
            )

        def make(update):
            undo = skipped or SkippedStep(optimizer, self._moving_variables())
            loss, gradients = gradients_of(update)
            norm = apply_gradients(optimizer, gradients, variables)
            record_update(self._means, "d", loss, norm, undo)
            return loss if norm is None else norm

        if self.jit_compile and len(updates) > 1:
            if self._num_replicas == 1:
                return tf.while_loop(lambda i, _: i < len(updates), lambda i, _: (i + 1, make(i)), (0, 0.0))[1]
            updates = [tf.constant(update) for update in updates]  # compiled once for all
        return [make(update) for update in updates][-1]

    def _update_generator(self, batches, randomness, fake, tape):
        """Makes the update, on images of its own if `fake` is None; returns whether it was applied."""
        optimizer, variables = self.generator_optimizer, self.generator.trainable_variables
        count = self.accumulation_steps

        def loss_of_batch(i):
            # The real images are those of the last update of the discriminator.
            return self._generator_loss(
                *batches[batches.count - count + i], randomness.of_batch(i, count), "generator/{}", fake
            )

        skipped = SkippedStep(optimizer, self._moving_variables())
        if tape is None:
            loss, gradients = self._compiled(
                lambda: mean_gradients(optimizer, loss_of_batch, count, variables, None, self.jit_compile)
            )()
        else:  # the tape cannot enter a function that is compiled apart
            loss, gradients = mean_gradients(optimizer, self._compiled(loss_of_batch), count, variables, tape)
        norm = apply_gradients(optimizer, gradients, variables)
        return record_update(self._means, "g", loss, norm, skipped)

    def _generate_batch(self, i, batches, randomness):
        """The generated images, and their labels, of an update of the discriminator without accumulation."""
        image, label = batches[i]
        own = randomness.of_batch(i, batches.count)
        return self._generate(tf.shape(image)[0], own, "discriminator/{}", label)

    def _moving_variables(self):
        """What an update moves besides weights, slots and average."""
        networks = self.generator.non_trainable_weights + self.discriminator.non_trainable_weights
        means = [variable for mean in self.metrics for variable in mean.variables]
        lecam = [self.lecam_means] if self.lecam_weight else []
        return networks + means + lecam + ([self.ada_p, self.ada_signs] if self.ada_target else [])

    def _compiled(self, function):
        """A function that XLA compiles, where it does not compile the whole step anyway."""
        if not self.jit_compile or self._num_replicas == 1:
            return function
        return tf.function(function, jit_compile=True, autograph=False)

    @property
    def _num_replicas(self):
        return self.distribute_strategy.num_replicas_in_sync
