"""Event files hold the values in the format of TensorBoard's plugins."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from training.tiny import make_gan

from sagan_tf.errors import UserError
from sagan_tf.training.tensorboard import EventFile, TensorBoard, peak_memory_gib


def events_of(folder):
    """(step, name, plugin, tensor) of all events in a folder."""
    found = []
    for path in sorted(folder.glob("events.out.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                plugin = value.metadata.plugin_data.plugin_name
                found.append((event.step, value.tag, plugin, tf.make_ndarray(value.tensor)))
    return found


def test_tensorboard_scalars_are_written_without_none(tmp_path):
    events = EventFile(tmp_path / "deep" / "tensorboard")
    events.scalars(5, {"d_loss": 1.5, "fake_logit": None, "images": 160})
    found = events_of(tmp_path / "deep" / "tensorboard")  # before the end: running training can be watched
    assert [(step, name, plugin, float(value)) for step, name, plugin, value in found] == [
        (5, "d_loss", "scalars", 1.5),
        (5, "images", "scalars", 160.0),
    ]
    events.close()


def test_tensorboard_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="the file for TensorBoard cannot be written .*output.tensorboard to none"):
        EventFile(tmp_path / "file").scalars(1, {"d_loss": 1.0})


def test_tensorboard_values_are_not_cached(tmp_path):
    # TensorFlow's cache of Python numbers would grow during weeks of training.
    step, value = 10**6, 10**6 / 7
    before = sys.getrefcount(step), sys.getrefcount(value)
    events = EventFile(tmp_path)
    events.scalars(step, {"d_loss": value})
    events.close()
    assert (sys.getrefcount(step), sys.getrefcount(value)) == before


def test_tensorboard_image_holds_bytes_of_file(tmp_path):
    Image.fromarray(np.zeros((7, 300, 3), np.uint8)).save(tmp_path / "picture.png")
    events = EventFile(tmp_path / "tensorboard")
    events.picture(3, "samples", tmp_path / "picture.png")
    ((step, name, plugin, value),) = events_of(tmp_path / "tensorboard")
    assert (step, name, plugin) == (3, "samples", "images")
    assert list(value) == [b"300", b"7", (tmp_path / "picture.png").read_bytes()]


def test_tensorboard_histogram_counts_every_value(tmp_path):
    values = np.random.default_rng(0).standard_normal((20, 30))
    events = EventFile(tmp_path)
    events.histogram(1, "weights", values)
    events.close()
    ((_, _, plugin, bins),) = events_of(tmp_path)
    assert plugin == "histograms" and bins[:, 2].sum() == values.size
    assert bins[0, 0] == values.min() and bins[-1, 1] == values.max()
    np.testing.assert_array_equal(bins[1:, 0], bins[:-1, 1])


@pytest.mark.parametrize(
    ("detail", "plugins"), [("scalars", set()), ("pictures", {"images"}), ("histograms", {"images", "histograms"})]
)
def test_tensorboard_detail_selects_images_and_histograms(tmp_path, detail, plugins):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "2.png")
    paths = {"samples": lambda step: tmp_path / f"{step}.png"}
    callback = TensorBoard(EventFile(tmp_path / "tensorboard"), detail, 2, paths)
    gan = make_gan(attention_sizes=(16,))
    gan.step.assign(1)
    callback.set_model(gan)
    callback.on_train_begin()
    for batch in range(2):
        callback.on_train_batch_end(batch)
    callback.on_train_end()
    found = events_of(tmp_path / "tensorboard")
    assert {plugin for _, _, plugin, _ in found} == plugins
    names = [name for step, name, plugin, _ in found if plugin == "histograms" and step == 2]
    assert len(names) == len(set(names))
    if names:
        weights = gan.generator.trainable_weights + gan.discriminator.trainable_weights
        assert len(names) == len(weights) and "weights/g/attention_16/gamma" in names
    assert [step for step, _, plugin, _ in found if plugin == "images"] == [2] * bool(plugins)


def test_tensorboard_rejects_unknown_detail():
    with pytest.raises(ValueError, match="Received: detail='all'"):
        TensorBoard(None, "all", 1, {})


def test_tensorboard_peak_memory_is_plausible():
    assert 0.1 < peak_memory_gib()["memory/process"] < 1000


def test_tensorboard_reads_event_file(tmp_path):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard is not installed"
    )
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "2.png")
    events = EventFile(tmp_path / "tensorboard")
    events.scalars(5, {"d_loss": 1.5})
    events.picture(5, "samples", tmp_path / "2.png")
    events.histogram(5, "weights", np.arange(100.0))
    events.close()
    found = accumulators.EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert set(found.Tags()["tensors"]) == {"d_loss", "samples", "weights"}
    plugins = {plugin: list(found.PluginTagToContent(plugin)) for plugin in ("scalars", "images", "histograms")}
    assert plugins == {"scalars": ["d_loss"], "images": ["samples"], "histograms": ["weights"]}
