"""The callback that writes the lines of `metrics.jsonl`."""

import time

import tensorflow as tf

from sagan_tf.layers import SelfAttention, spectral_normalizations
from sagan_tf.training.callbacks import StepCallback
from sagan_tf.training.guard import check_finite
from sagan_tf.training.loss_scale import loss_scaling_optimizers


class Metrics(StepCallback):
    """Writes a line every `interval` steps: step, images, means since the last line, gamma, sigma, speed.

    A run that stops between two lines saves its means, and continues them when it resumes at the same step.

    Args:
        log: Metrics log with `append(line)`, `read_unfinished()` and `save_unfinished(dict)`, see `runs.metrics_log`.
        interval: int, steps from one line to the next.
        images_per_step: int, real images of one step, over all replicas.
        guard: `Guard`; checks the means before the line or a checkpoint is written, and may end the run.
    """

    def __init__(self, log, interval, images_per_step, guard):
        super().__init__(interval)
        self.log, self.images_per_step, self.guard = log, images_per_step, guard

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.timed_seconds, self.timed_steps = 0.0, 0
        self.line_step, self.logs = self.first_step, {}
        self.unfinished = self.log.read_unfinished()
        if self.unfinished is not None and self.unfinished["step"] != self.first_step:
            self.unfinished = None
        self.read_state = _state_reader(self.model)
        self.model.reset_metrics()

    def on_train_batch_begin(self, batch, logs=None):
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if self.last_step > self.first_step:  # the first call traces the graph, which takes minutes
            self.timed_seconds += time.perf_counter() - self.started
            self.timed_steps += self.first_step + batch + 1 - self.last_step
        self.logs = logs
        super().on_train_batch_end(batch, logs)

    def at_interval(self, step):
        means = self._means()
        guarded = self.guard.check(self.model, step, means)
        line = {"step": step, "images": step * self.images_per_step, **means, **guarded, **self.read_state()}
        if self.timed_seconds:
            line["images_per_second"] = self.timed_steps * self.images_per_step / self.timed_seconds
        self.log.append(line)
        self.timed_seconds, self.timed_steps = 0.0, 0
        self.line_step, self.unfinished = step, None
        self.model.reset_metrics()

    def on_train_end(self, logs=None):
        if self.last_step % self.interval and self.logs:
            check_finite(self.model, self.last_step, self._means())  # a checkpoint follows
            steps = self.last_step - self.line_step + (self.unfinished["steps"] if self.unfinished else 0)
            self.log.save_unfinished({"step": self.last_step, "steps": steps, "means": self._means()})

    def _means(self):
        """Means since the last line, including the steps of an earlier process."""
        means = {name: float(value) for name, value in self.logs.items()}
        if self.unfinished is None:
            return means
        old_steps, new_steps = self.unfinished["steps"], self.last_step - self.line_step
        old = self.unfinished["means"]

        def combine(name, value):
            counts = _updates(name, old_steps, old), _updates(name, new_steps, means)
            total = counts[0] * old.get(name, value) + counts[1] * value
            return total / sum(counts) if sum(counts) else value

        return {name: combine(name, value) for name, value in means.items()}


def _updates(name, steps, means):
    """Steps that a mean is over: without those whose update was skipped."""
    skipped = "g_skipped" if name.startswith("g_") else "d_skipped"
    return steps if name.endswith("_skipped") else steps * (1 - means.get(skipped, 0.0))


def _state_reader(gan):
    """Makes a function that reads learning rates, loss scales, every attention's gamma and every layer's sigma."""
    gammas, sigmas = {}, {}
    for letter, network in (("g", gan.generator), ("d", gan.discriminator)):
        for layer in network.layers:
            if isinstance(layer, SelfAttention):
                gammas[f"gamma/{letter}/{layer.name}"] = layer.gamma
        for name, layer in spectral_normalizations(network).items():
            sigmas[f"sigma/{letter}/{name}"] = layer

    @tf.function(autograph=False)
    def read_on_device():
        values = {name: tf.convert_to_tensor(gamma) for name, gamma in gammas.items()}
        return values | {name: layer.sigma() for name, layer in sigmas.items()}

    def read():
        rates = {
            "generator_learning_rate": float(gan.generator_optimizer.learning_rate.numpy()),
            "discriminator_learning_rate": float(gan.discriminator_optimizer.learning_rate.numpy()),
        }
        for name, optimizer in loss_scaling_optimizers(gan).items():
            rates[f"{name}_loss_scale"] = float(optimizer.dynamic_scale.numpy())
            rates[f"{name}_skipped_steps"] = int(optimizer.skipped_steps.numpy())
        return rates | {name: float(value) for name, value in read_on_device().items()}

    return read
