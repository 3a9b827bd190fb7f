"""Event files for TensorBoard, which need not be installed to write them; TensorFlow."""

import functools
import os
import resource
import struct
import sys

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.training.callbacks import StepCallback

DETAILS = ("none", "scalars", "pictures", "histograms")  # Each holds what stands before it.
_BINS = 30  # As TensorBoard's own.


class EventFile:
    """An event file, made with the first thing that is written to it.

    Values go out in the form that TensorBoard's plugins read; `tf.summary.scalar` and its like would need the package.

    Args:
        folder: Path; it is made.

    Source: tensorboard/plugins/{scalar,image,histogram}/metadata.py and summary_v2.py.
    """

    def __init__(self, folder):
        self.folder = os.fspath(folder)
        self._writer = None

    def scalars(self, step, values):
        """Writes numbers.

        Args:
            step: int.
            values: dict, name -> number; None is left out.
        """
        for name, value in values.items():
            if value is not None:
                self._write(step, name, np.float32(value), "scalars", 1)
        self._writer.flush()

    def picture(self, step, name, path):
        """Writes a picture as it lies in a file.

        Args:
            step: int.
            name: str.
            path: Of a PNG file.
        """
        with open(path, "rb") as file:
            data = file.read()
        width, height = struct.unpack(">II", data[16:24])  # of the header, which stands first in every PNG file
        self._write(step, name, np.array([str(width).encode(), str(height).encode(), data], object), "images", 3)
        self._writer.flush()

    def histogram(self, step, name, values):
        """Writes how values are spread.

        Args:
            step: int.
            name: str.
            values: Array of floats.
        """
        counts, edges = np.histogram(np.asarray(values, np.float64), _BINS)
        self._write(step, name, np.stack([edges[:-1], edges[1:], counts], 1), "histograms", 2)

    def close(self):
        """Ends the file."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, step, name, array, plugin, data_class):
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self.folder)
        # TensorFlow keeps every Python float, int and bytes that it ever made a tensor of, and of NumPy's none: a new
        # one at every step would be 0.7 KiB that never comes back.
        with self._writer.as_default():
            tf.summary.write(sys.intern(name), array, step=np.int64(step), metadata=_metadata(plugin, data_class))


@functools.cache
def _metadata(plugin, data_class):
    metadata = tf.compat.v1.SummaryMetadata(data_class=data_class)
    metadata.plugin_data.plugin_name = plugin
    return metadata.SerializeToString()


class TensorBoard(StepCallback):
    """Writes pictures that other callbacks have drawn, and histograms of weights, to an event file.

    Args:
        events: `EventFile`; closed at the end.
        detail: One of `DETAILS`.
        interval: Steps from one picture to the next.
        paths: dict, name -> function of a step that gives a picture's path; one that is not there is left out.
    """

    def __init__(self, events, detail, interval, paths):
        super().__init__()
        if detail not in DETAILS:
            raise ValueError(f"`detail` must be one of {DETAILS}. Received: {detail=}.")
        self.events, self.interval, self.paths = events, interval, paths
        self.detail = DETAILS.index(detail)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.last_step = self.first_step
        if self.first_step == 0:
            self._show(0)

    def on_train_batch_end(self, batch, logs=None):
        self.last_step = self.step_after(batch)
        if self.last_step % self.interval == 0:
            self._show(self.last_step)

    def on_train_end(self, logs=None):
        if self.last_step % self.interval:
            self._show(self.last_step)
        self.events.close()

    def _show(self, step):
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
    """The most memory that was in use so far.

    Returns:
        dict: `memory/process` and, where there are GPUs, `memory/gpu_0` and so on, in GiB.
    """
    # The kernel counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    found = {"memory/process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}
    for i in range(len(tf.config.list_physical_devices("GPU"))):
        found[f"memory/gpu_{i}"] = tf.config.experimental.get_memory_info(f"GPU:{i}")["peak"] / 2**30
    return found
