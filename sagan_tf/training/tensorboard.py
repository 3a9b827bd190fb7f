"""Event files for TensorBoard, written without the tensorboard package."""

import contextlib
import functools
import os
import resource
import struct
import sys

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.errors import UserError, summarize
from sagan_tf.training.image_callbacks import ImageCallback

DETAILS = ("none", "scalars", "pictures", "histograms")  # Each includes the ones before it.
_BINS = 30  # As TensorBoard's own.


class EventFile:
    """An event file, created at the first write.

    Values have the form that TensorBoard's plugins read; `tf.summary.scalar` and the like would need the package.

    Args:
        folder: Path; created.

    Raises:
        UserError: From each method, if the file cannot be written.

    Source: tensorboard/plugins/{scalar,image,histogram}/metadata.py and summary_v2.py.
    """

    def __init__(self, folder):
        self.folder = os.fspath(folder)
        self._writer = None

    def scalars(self, step, values):
        """Writes a dict of numbers by name; None is left out."""
        for name, value in values.items():
            if value is not None:
                self._write(step, name, np.float32(value), "scalars", 1)
        self._flush()

    def picture(self, step, name, path):
        """Writes the bytes of a PNG file."""
        with open(path, "rb") as file:
            data = file.read()
        width, height = struct.unpack(">II", data[16:24])  # from the header
        self._write(step, name, np.array([str(width).encode(), str(height).encode(), data], object), "images", 3)
        self._flush()

    def histogram(self, step, name, values):
        """Writes the histogram of an array of floats."""
        counts, edges = np.histogram(np.asarray(values, np.float64), _BINS)
        self._write(step, name, np.stack([edges[:-1], edges[1:], counts], 1), "histograms", 2)

    def close(self):
        """Closes the file."""
        if self._writer is not None:
            with self._one_line_errors():
                self._writer.close()

    def _flush(self):
        with self._one_line_errors():
            self._writer.flush()

    def _write(self, step, name, array, plugin, data_class):
        with self._one_line_errors():
            if self._writer is None:
                self._writer = tf.summary.create_file_writer(self.folder)
            # TensorFlow caches every Python float, int and bytes that it converts, and no NumPy scalar: Python numbers
            # would leak 0.7 KiB per step.
            with self._writer.as_default():
                tf.summary.write(sys.intern(name), array, step=np.int64(step), metadata=_metadata(plugin, data_class))

    @contextlib.contextmanager
    def _one_line_errors(self):
        try:
            yield
        except tf.errors.OpError as error:
            raise UserError(
                f"{self.folder}: the file for TensorBoard cannot be written ({summarize(error)}). Make it writable, or "
                "set output.tensorboard to none."
            ) from None


@functools.cache
def _metadata(plugin, data_class):
    metadata = tf.compat.v1.SummaryMetadata(data_class=data_class)
    metadata.plugin_data.plugin_name = plugin
    return metadata.SerializeToString()


class TensorBoard(ImageCallback):
    """Writes the images of other callbacks, and histograms of weights, to an event file.

    Args:
        events: `EventFile`; closed at the end.
        detail: One of `DETAILS`.
        interval: int, steps from one image to the next.
        paths: dict, name -> function of a step that gives an image's path; a missing image is left out.
    """

    def __init__(self, events, detail, interval, paths):
        super().__init__(interval)
        if detail not in DETAILS:
            raise ValueError(f"`detail` must be one of {DETAILS}. Received: {detail=}.")
        self.events, self.paths = events, paths
        self.detail = DETAILS.index(detail)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        self.events.close()

    def at_interval(self, step):
        if self.detail >= DETAILS.index("pictures"):
            for name, path_of in self.paths.items():
                if os.path.exists(path_of(step)):
                    self.events.picture(step, name, path_of(step))
        if self.detail >= DETAILS.index("histograms"):
            for letter, network in (("g", self.model.generator), ("d", self.model.discriminator)):
                for weight in network.trainable_weights:
                    values = keras.ops.convert_to_numpy(weight)
                    self.events.histogram(step, f"weights/{letter}/{weight.path}", values)


def peak_memory_gib():
    """Peak memory in GiB: dict of `memory/process` and, with GPUs, `memory/gpu_0` and so on."""
    # The kernel counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"memory/process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}
    for i in range(len(tf.config.list_physical_devices("GPU"))):
        peaks[f"memory/gpu_{i}"] = tf.config.experimental.get_memory_info(f"GPU:{i}")["peak"] / 2**30
    return peaks
