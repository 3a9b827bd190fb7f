"""Learning rate schedules."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="sagan_tf")
class WarmupAndDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from 0, then constant, then decay.

    Args:
        learning_rate: float > 0, the highest learning rate.
        schedule: `constant`, `linear` or `cosine`, the form of the decay.
        warmup_steps: int >= 0. Optimizer steps of the warm-up.
        decay_start_step: int >= 0. Optimizer step at which the decay starts.
        decay_end_step: int > decay_start_step. Optimizer step at which it ends.
        final_learning_rate: float >= 0, the learning rate after the decay.

    Raises:
        ValueError: The schedule is unknown, or the decay ends before it starts.
    """

    def __init__(
        self,
        learning_rate,
        schedule="constant",
        warmup_steps=0,
        decay_start_step=0,
        decay_end_step=1,
        final_learning_rate=0.0,
    ):
        if schedule not in ("constant", "linear", "cosine"):
            raise ValueError(f"`schedule` must be 'constant', 'linear' or 'cosine'. Received: {schedule=}.")
        if decay_end_step <= decay_start_step:
            raise ValueError(
                f"`decay_end_step` must lie after `decay_start_step`. Received: {decay_start_step=}, {decay_end_step=}."
            )
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.decay_start_step = decay_start_step
        self.decay_end_step = decay_end_step
        self.final_learning_rate = final_learning_rate

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rate = ops.convert_to_tensor(self.learning_rate, dtype="float32")
        if self.schedule != "constant":
            span = self.decay_end_step - self.decay_start_step
            progress = ops.clip((step - self.decay_start_step) / span, 0.0, 1.0)
            if self.schedule == "cosine":
                progress = (1.0 - ops.cos(math.pi * progress)) / 2.0
            rate = rate + (self.final_learning_rate - rate) * progress
        if self.warmup_steps:
            rate = rate * ops.minimum((step + 1.0) / self.warmup_steps, 1.0)
        return rate

    def get_config(self):
        return dict(vars(self))
