"""Penalties of the discriminator's logits and images against float64, and the step that applies them."""

import keras
import numpy as np
import pytest
from training.float16 import OVERFLOWING, make_images, make_small
from training.tiny import fit, make_data, make_gan

from sagan_tf.experiment.checkpoints import make_checkpoint, restore
from sagan_tf.training.losses import AdversarialLoss

LECAM = dict(lecam_weight=0.3, lecam_decay=0.9, lecam_start_step=2)


class Lines(keras.callbacks.Callback):
    """Keeps the metrics of every step."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        self.lines.append({name: float(value) for name, value in logs.items()})


def test_lecam_matches_float64_over_the_steps():
    gan, seen = make_gan(num_classes=None, compile_arguments=dict(run_eagerly=True, **LECAM)), Lines()
    means, wanted, logits = np.zeros(2), [], []
    loss = gan.adversarial_loss

    def recorded(*pair):
        logits.append(np.float64(pair))
        return loss.discriminator(*pair)

    gan.adversarial_loss = AdversarialLoss("recorded", recorded, loss.generator)
    fit(gan, make_data(4, 5), callbacks=[seen])
    for step, (real, fake) in enumerate(logits):
        rate = 1.0 if step < 2 else 0.1
        means += rate * (np.array([real.mean(), fake.mean()]) - means)
        penalty = np.mean(np.maximum(real - means[1], 0) ** 2) + np.mean(np.maximum(means[0] - fake, 0) ** 2)
        wanted.append(0.0 if step < 2 else 0.3 * penalty)
    np.testing.assert_allclose([line["lecam"] for line in seen.lines], wanted, rtol=1e-5)
    np.testing.assert_allclose(gan.lecam_means, means, rtol=1e-5)
    assert len(logits) == 5 and wanted[-1] > 0


@pytest.mark.parametrize("way", ["load_model", "checkpoint"])
def test_lecam_means_are_saved(way, tmp_path):
    gan, twin = (make_small("float32", loss="hinge", run_eagerly=True, **LECAM) for _ in range(2))
    fit(gan, make_images(3))
    if way == "load_model":
        gan.save(tmp_path / "gan.keras")
        twin = keras.models.load_model(tmp_path / "gan.keras", compile=True)
        assert twin.get_compile_config() == gan.get_compile_config()
    else:
        assert restore(twin, make_checkpoint(gan).save(str(tmp_path / "checkpoint"))) is None
    for one in (gan, twin):
        fit(one, make_images(2))
    np.testing.assert_array_equal(twin.lecam_means, gan.lecam_means)
    assert np.any(gan.lecam_means)


def test_skipped_step_does_not_move_lecam_means():
    gan = make_small(loss=OVERFLOWING, run_eagerly=True, lecam_weight=0.3, lecam_start_step=1)
    fit(gan, make_images(1))
    before = np.array(gan.lecam_means)
    fit(gan, make_images(1, bright=3))
    assert int(gan.discriminator_optimizer.skipped_steps) == 1
    np.testing.assert_array_equal(gan.lecam_means, before)
