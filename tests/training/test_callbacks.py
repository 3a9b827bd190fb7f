"""Pictures and the report are written at their intervals; a failure does not end training."""

import numpy as np
import pytest
from PIL import Image
from training.tiny import make_gan

from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler, grid_seeds
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.training import SAGAN
from sagan_tf.training.callbacks import Report
from sagan_tf.training.pictures import AttentionPictures, Samples


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
    started(Samples(lambda step: tmp_path / f"{step}.png", 3, seeds, labels, 2), gan, 0)
    expected = Sampler(fold_generator(gan.ema_generator)).sample(seeds, labels)
    expected = expected.reshape(4, 2, 32, 32, 3).swapaxes(1, 2).reshape(4 * 32, 2 * 32, 3)
    with Image.open(tmp_path / "0.png") as picture:
        pixels = np.asarray(picture)[::2, ::2].astype(int)  # enlarged to 64 px
    # Folding sums in another order, which may change a level by one.
    assert abs(pixels - expected).max() <= 1


@pytest.mark.parametrize(("first", "batches", "steps"), [(0, 7, [0, 3, 6, 7]), (3, 3, [6]), (2, 2, [3, 4])])
def test_attention_pictures_are_saved_at_interval_and_end(tmp_path, first, batches, steps):
    callback = AttentionPictures(lambda step: tmp_path / f"{step}.png", 3, [0, 1], [0, 1])
    run_through(started(callback, make_gan(), first), batches)
    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == steps


def test_attention_pictures_are_not_saved_without_attention(tmp_path):
    sizes = dict(image_size=32, channels=4, num_classes=None, attention_sizes=())
    gan = SAGAN(build_generator(**sizes, latent_dim=8), build_discriminator(**sizes))
    callback = AttentionPictures(lambda step: tmp_path / f"{step}.png", 1, [0, 1], None)
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
