"""What happens between steps: progress, metrics, pictures, report, checkpoints, and the end of a run gone wrong."""

import contextlib
import os
import shutil
import signal
import sys
import time

import keras
import tensorflow as tf
from tqdm.auto import tqdm

from sagan_tf.errors import Terminated, UserError
from sagan_tf.layers import SelfAttention, spectral_normalizations
from sagan_tf.training.gan import with_label
from sagan_tf.viewing.attention import AttentionProbe
from sagan_tf.viewing.attention_pictures import make_row, save_rows
from sagan_tf.viewing.image_grids import save_grid
from sagan_tf.viewing.query_points import choose_points


class StepCallback(keras.callbacks.Callback):
    """A callback that counts training steps from the start of the run, not of this process."""

    def on_train_begin(self, logs=None):
        self.first_step = int(self.model.step.numpy())

    def step_after(self, batch):
        """Steps made once batch `batch` of this process (counted from 0) is done."""
        return self.first_step + batch + 1


class Progress(StepCallback):
    """A bar with steps, ETA, losses and speed.

    Args:
        steps: Steps of the whole run.
    """

    def __init__(self, steps):
        super().__init__()
        self.steps, self.bar = steps, None

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.bar = tqdm(total=self.steps, initial=self.first_step, unit="step", desc="compiling the step")
        self.shown_at = 0.0

    def on_train_batch_end(self, batch, logs=None):
        # Reading a loss waits for the device, so not at every step.
        if time.monotonic() - self.shown_at > 0.5:
            shown = {name: f"{float(logs[name]):.3f}" for name in ("d_loss", "g_loss")}
            self.bar.set_description("training", refresh=False)
            self.bar.set_postfix(shown, refresh=False)
            self.shown_at = time.monotonic()
        self.bar.update(self.step_after(batch) - self.bar.n)

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Ends the line of the bar; for runs that end by an exception, which Keras does not tell its callbacks."""
        if self.bar is not None:
            self.bar.close()


class Metrics(StepCallback):
    """Writes a line every `interval` steps: step, images, means since the last line, gamma, sigma, speed.

    Args:
        write: Function of a dict.
        interval: Steps from one line to the next.
        images_a_step: Real images that a step takes, over all replicas.
        guard: `Guard`, which sees the means before the line or a checkpoint is written, and may end the run.
        carried: dict with `step`, `steps` and `means`: what an earlier life that was stopped at that step, between two
            lines, had of the next one; None: nothing. That of another step than training starts from is passed over.
        carry: Function of such a dict, called when training ends between two lines.
    """

    def __init__(self, write, interval, images_a_step, guard, carried=None, carry=lambda found: None):
        super().__init__()
        self.write = write
        self.interval = interval
        self.images_a_step = images_a_step
        self.guard = guard
        self.carried, self.carry = carried, carry

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.last_step, self.seconds, self.steps = self.first_step, 0.0, 0
        self.line_step, self.logs = self.first_step, {}
        if self.carried is not None and self.carried["step"] != self.first_step:
            self.carried = None
        self.read_state = _state_reader(self.model)
        self.model.reset_metrics()

    def on_train_batch_begin(self, batch, logs=None):
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        step = self.step_after(batch)
        if batch > 0:  # the first call traces the graph: minutes that say nothing of the speed
            self.seconds += time.perf_counter() - self.started
            self.steps += step - self.last_step
        self.last_step, self.logs = step, logs
        if step % self.interval:
            return
        means = self._means()
        more = self.guard.examine(self.model, step, means)
        line = {"step": step, "images": step * self.images_a_step, **means, **more, **self.read_state()}
        if self.seconds:
            line["images_per_second"] = self.steps * self.images_a_step / self.seconds
        self.write(line)
        self.seconds, self.steps = 0.0, 0
        self.line_step, self.carried = step, None
        self.model.reset_metrics()

    def on_train_end(self, logs=None):
        if self.last_step % self.interval and self.logs:
            steps = self.last_step - self.line_step + (self.carried["steps"] if self.carried else 0)
            self.carry({"step": self.last_step, "steps": steps, "means": self._means()})

    def _means(self):
        """Means since the last line, with those of an earlier life."""
        means = {name: float(value) for name, value in self.logs.items()}
        if self.carried is None:
            return means
        before, since = self.carried["steps"], self.last_step - self.line_step
        old = self.carried["means"]
        return {k: (before * old.get(k, v) + since * v) / (before + since) for k, v in means.items()}


def _state_reader(gan):
    """Makes a function that gives learning rates, every attention's gamma and every layer's sigma as floats."""
    gammas, sigmas = {}, {}
    for letter, network in (("g", gan.generator), ("d", gan.discriminator)):
        for layer in network.layers:
            if isinstance(layer, SelfAttention):
                gammas[f"gamma/{letter}/{layer.name}"] = layer.gamma
        for name, layer in spectral_normalizations(network).items():
            sigmas[f"sigma/{letter}/{name}"] = layer

    @tf.function(autograph=False)
    def read():
        values = {name: tf.convert_to_tensor(gamma) for name, gamma in gammas.items()}
        return values | {name: layer.sigma() for name, layer in sigmas.items()}

    def state():
        rates = {
            "generator_learning_rate": float(gan.generator_optimizer.learning_rate.numpy()),
            "discriminator_learning_rate": float(gan.discriminator_optimizer.learning_rate.numpy()),
        }
        return rates | {name: float(value) for name, value in read().items()}

    return state


class Pictures(StepCallback):
    """Draws every `interval` steps, before the first step and at the end; a subclass has `_prepare` and `_draw(step)`.

    Args:
        path_of: Function of a step that gives the picture's path.
        interval: Steps from one picture to the next.
    """

    def __init__(self, path_of, interval):
        super().__init__()
        self.path_of, self.interval = path_of, interval

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.last_step = self.first_step
        self._prepare()
        if self.first_step == 0:
            self._draw(0)

    def on_train_batch_end(self, batch, logs=None):
        self.last_step = self.step_after(batch)
        if self.last_step % self.interval == 0:
            self._draw(self.last_step)

    def on_train_end(self, logs=None):
        if self.last_step % self.interval:
            self._draw(self.last_step)


class Samples(Pictures):
    """Draws the same latents every `interval` steps, at the first step and at the end.

    Args:
        path_of: Function of a step that gives the picture's path.
        interval: Steps from one picture to the next.
        latent: (N, D) float32.
        label: (N,) int32, or None.
        columns: Columns of the picture.
    """

    def __init__(self, path_of, interval, latent, label, columns):
        super().__init__(path_of, interval)
        self.columns = columns
        self.inputs = with_label(tf.constant(latent), None if label is None else tf.constant(label))

    def _prepare(self):
        self.generate = tf.function(lambda inputs: self.model(inputs, training=False), autograph=False)

    def _draw(self, step):
        save_grid(self.generate(self.inputs).numpy(), self.path_of(step), self.columns)


class AttentionPictures(Pictures):
    """Draws where five positions of the same latents look, every `interval` steps, at the first step and at the end.

    Does nothing for a generator without attention.

    Args:
        path_of: Function of a step that gives the picture's path.
        interval: Steps from one picture to the next.
        latent: (N, D) float32.
        label: (N,) int32, or None.
    """

    def __init__(self, path_of, interval, latent, label):
        super().__init__(path_of, interval)
        self.inputs = [latent] if label is None else [latent, label]

    def _prepare(self):
        self.probe = AttentionProbe(self.model.ema_generator)

    def _draw(self, step):
        if not self.probe.layers:
            return
        image, maps = self.probe.look(self.inputs)
        rows = []
        for name, found in maps.items():
            count = min(5, found.scores.shape[1])
            points = [choose_points(features, picture, count) for features, picture in zip(found.features, image)]
            rows += [make_row(found, i, image[i], points[i]) for i in range(len(image))]
        gammas = ", ".join(f"{name} gamma {found.gamma:.3f}" for name, found in maps.items())
        save_rows(rows, self.path_of(step), f"Step {step}, {gammas}")


class Report(StepCallback):
    """Writes the page of the run at the start, every `interval` steps and at the end.

    A page that cannot be written is told of once, and the training goes on.

    Args:
        write: Function without arguments.
        interval: Steps from one page to the next.
    """

    def __init__(self, write, interval):
        super().__init__()
        self.write, self.interval, self.failed = write, interval, False

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._try()

    def on_train_batch_end(self, batch, logs=None):
        if self.step_after(batch) % self.interval == 0:
            self._try()

    def on_train_end(self, logs=None):
        self._try()

    def _try(self):
        try:
            self.write()
        except (OSError, ValueError, UserError) as error:
            if not self.failed:
                print(f"The report is not written: {error}", file=sys.stderr)
            self.failed = True


class Checkpoints(StepCallback):
    """Saves all that a resume needs, and the averaged generator as a `.keras` file, every `interval` steps and at the
    end. Both appear under their names only when they are complete.

    The last checkpoint comes after all else that the last step brings: with it the run is over, and a process that is
    started after a kill would make none of the rest. For the same reason the generator comes before its checkpoint.

    Args:
        manager: tf.train.CheckpointManager.
        interval: Steps from one checkpoint to the next.
        generator_path: Where the generator goes; ends in `.keras`.
        steps: Steps of the whole run.
    """

    def __init__(self, manager, interval, generator_path, steps):
        super().__init__()
        self.manager, self.interval, self.generator_path = manager, interval, str(generator_path)
        self.steps = steps

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.last_step = self.saved_step = self.first_step

    def on_train_batch_end(self, batch, logs=None):
        self.last_step = self.step_after(batch)
        if self.last_step % self.interval == 0 and self.last_step < self.steps:
            self._save()

    def on_train_end(self, logs=None):
        if self.saved_step != self.last_step:
            self._save()

    def _save(self):
        beside = self.generator_path.removesuffix(".keras") + ".partial.keras"
        try:
            self.model.ema_generator.save(beside)
            os.replace(beside, self.generator_path)
            self.manager.save(checkpoint_number=self.last_step)
        except (OSError, tf.errors.OpError) as error:  # TensorFlow and HDF5 have their own words for a full disk
            shutil.rmtree(os.path.join(self.manager.directory, f"ckpt-{self.last_step}_temp"), ignore_errors=True)
            with contextlib.suppress(OSError):
                os.unlink(beside)
            reason = " ".join(str(error).split())[-160:]
            raise UserError(
                f"{self.manager.directory}: the checkpoint of step {self.last_step} cannot be written ({reason}). "
                "Those before it are whole: free some space, or mend what is wrong, and the same command goes on."
            ) from None
        self.saved_step = self.last_step


class StopOnSignal(keras.callbacks.Callback):
    """Ctrl-C or SIGTERM ends the run after the step at hand, saved; a second one ends it at once.

    On several workers all end after the same step, whichever of them got the signal.
    `received` is the signal's name afterwards, or None. `close` gives the signals back; not the end of training, after
    which others still draw and save.
    """

    def __init__(self):
        super().__init__()
        self._signal, self.before = None, {}

    @property
    def received(self):
        if self._signal is None and self._agreed():
            return "another worker"
        return self._signal

    def on_train_begin(self, logs=None):
        self.before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_batch_end(self, batch, logs=None):
        if self._agreed():
            self.model.stop_training = True

    def close(self):
        """Leaves the signals to whoever had them before."""
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _agreed(self):
        return self.model.stop_agreed is not None and float(self.model.stop_agreed) > 0

    def _stop(self, number, frame):
        if self._signal is not None:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        self._signal = signal.Signals(number).name
        self.model.stop_wanted = True
        if not isinstance(self.model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            self.model.stop_training = True
