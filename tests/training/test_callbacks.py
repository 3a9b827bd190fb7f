"""Images and the report are written at their intervals; a failure does not end training."""

import contextlib
import hashlib
import os
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image
from training.tiny import make_gan

from sagan_tf.errors import Terminated
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler, grid_seeds
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.training import SAGAN
from sagan_tf.training.callbacks import Report
from sagan_tf.training.image_callbacks import AttentionImages, Samples
from sagan_tf.training.signals import StopOnSignal


def started(callback, gan, step):
    gan.step.assign(step)
    callback.set_model(gan)
    callback.on_train_begin()
    return callback


def run_through(callback, batches):
    for batch in range(batches):
        callback.on_train_batch_end(batch)
    callback.on_train_end()


def test_sample_grid_shows_the_seeds_of_the_sample_command(tmp_path):
    gan = make_gan()
    seeds, labels = grid_seeds(4, 2, gan.num_classes)
    titles = ("a", "ж", "a longer name", "猫")
    started(Samples(lambda step: tmp_path / f"{step}.png", 3, seeds, labels, 2, titles), gan, 0)
    expected = Sampler(fold_generator(gan.ema_generator)).sample(seeds, labels)
    expected = expected.reshape(4, 2, 32, 32, 3).swapaxes(1, 2).reshape(4 * 32, 2 * 32, 3)
    with Image.open(tmp_path / "0.png") as picture:
        names, pixels = np.split(np.asarray(picture).astype(int), [-2 * 64], axis=1)
    assert (names.reshape(4, 64, -1).min(-1).min(-1) < 100).all()  # a name beside each row
    pixels = pixels[::2, ::2]  # enlarged to 64 px
    # Folding sums in another order, which may change a level by one.
    assert abs(pixels - expected).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize(("first", "batches", "steps"), [(0, 7, [0, 3, 6, 7]), (3, 3, [6]), (2, 2, [3, 4])])
def test_attention_images_are_saved_at_interval_and_end(tmp_path, first, batches, steps):
    callback = AttentionImages(lambda step: tmp_path / f"{step}.png", 3, [0, 1], [0, 1], ["disc", "ring", "square"])
    run_through(started(callback, make_gan(attention_sizes=(16,)), first), batches)
    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == steps


def test_attention_images_are_not_saved_without_attention(tmp_path):
    sizes = dict(image_size=32, channels=4, num_classes=None, attention_sizes=())
    gan = SAGAN(build_generator(**sizes, latent_dim=8), build_discriminator(**sizes))
    callback = AttentionImages(lambda step: tmp_path / f"{step}.png", 1, [0, 1], None)
    run_through(started(callback, gan, 0), 2)
    assert not list(tmp_path.iterdir())


def test_report_is_written_at_start_interval_and_end():
    written = []
    callback = Report(lambda: written.append(len(written)), 3)
    run_through(started(callback, make_gan(), 1), 4)  # after steps 2, 3, 4, 5
    assert len(written) == 3


def test_report_failure_is_printed_once(capsys):
    def fail():
        raise OSError("no space")

    run_through(started(Report(fail, 1), make_gan(), 0), 4)
    assert capsys.readouterr().err == "The report cannot be written: no space\n"


def test_stop_is_announced_within_the_step(monkeypatch, capsys):
    """The step is a call of C that no Python signal handler interrupts."""
    gan, stop, sent, answered = make_gan(), StopOnSignal(), [], []
    announce = stop._announce
    monkeypatch.setattr(stop, "_announce", lambda number: answered.append(time.monotonic()) or announce(number))
    started(stop, gan, 7)
    stop.on_train_batch_end(0)
    stop.on_train_batch_begin(1)
    threading.Timer(0.1, lambda: sent.append(time.monotonic()) or os.kill(os.getpid(), signal.SIGINT)).start()
    hashlib.pbkdf2_hmac("sha256", b"step", b"", 2_000_000)
    end = time.monotonic()
    stop.close()
    assert answered[0] - sent[0] < (end - sent[0]) / 2 and stop.received == "SIGINT" and gan.stop_training
    assert capsys.readouterr().err == "\nsaving at step 9, press again to leave without saving\n"


def test_stop_between_steps_announces_the_step_that_is_done(capsys):
    gan, stop = make_gan(), StopOnSignal()
    started(stop, gan, 7)
    stop.on_train_batch_begin(0)
    stop.on_train_batch_end(0)
    signal.raise_signal(signal.SIGINT)
    stop.close()
    assert gan.stop_training
    assert capsys.readouterr().err == "\nsaving at step 8, press again to leave without saving\n"


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_second_signal_ends_training_at_once(number, error):
    gan, stop = make_gan(), StopOnSignal()
    started(stop, gan, 0)
    with contextlib.closing(stop):
        signal.raise_signal(number)
        assert gan.stop_training
        with pytest.raises(error):
            signal.raise_signal(number)
