"""A small SavedModel with the signatures of an exported generator, and further ones, of the operations of exports."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

LATENT_DIM, NUM_CLASSES = 3, 5


class Model(tf.Module):
    """Functions that can be computed by hand; `scale` multiplies the images."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = tf.Variable(scale)

    def image(self, latent, label):
        with tf.control_dependencies([_in_range(label)]):
            value = tf.reduce_sum(latent, 1) + tf.cast(label, tf.float32)
        return {"image": self.scale * value[:, None, None, None] * tf.ones([1, 2, 2, 1])}

    def attention(self, latent, label):
        return self.image(latent, label) | {"map": latent[:, :, None] * latent[:, None, :]}

    def sample(self, seed, label, truncation):
        with tf.control_dependencies([_in_range(label)]):
            level = tf.cast(tf.minimum(seed, 200), tf.float32) + tf.cast(label, tf.float32) * truncation
        images = tf.cast(level, tf.uint8)[:, None, None, None] * tf.ones([1, 4, 4, 1], tf.uint8)
        return {"image_bytes": tf.io.encode_png(images)}

    def texts(self, text):
        return {"text": tf.strings.join([text, "!"]), "is_abc": tf.cast(tf.equal(text, "abc"), tf.int32)}

    def no_batch(self, matrix):
        return {"total": tf.reduce_sum(matrix)}


def _in_range(label):
    return tf.debugging.Assert(tf.reduce_all((label >= 0) & (label < NUM_CLASSES)), ["label out of range", label])


_LATENT = tf.TensorSpec([None, LATENT_DIM], tf.float32, "latent")
_LABEL = tf.TensorSpec([None], tf.int32, "label")
_SIGNATURES = {
    "serving_default": ("image", [_LATENT, _LABEL]),
    "attention": ("attention", [_LATENT, _LABEL]),
    "sample": (
        "sample", [tf.TensorSpec([None], tf.int64, "seed"), _LABEL, tf.TensorSpec([None], tf.float32, "truncation")],
    ),
    "texts": ("texts", [tf.TensorSpec([None], tf.string, "text")]),
    "no_batch": ("no_batch", [tf.TensorSpec([2, 2], tf.float64, "matrix")]),
}  # fmt: skip


def write_model(folder, version=1, scale=1.0):
    """Writes a version atomically into a model's folder; returns its path."""
    module = Model(scale)
    signatures = {
        name: tf.function(getattr(module, method), input_signature=specs, autograph=False)
        for name, (method, specs) in _SIGNATURES.items()
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    temporary_path = tempfile.mkdtemp(prefix=".new-", dir=folder)
    tf.saved_model.save(module, temporary_path, signatures=signatures)
    path = Path(folder) / str(version)
    os.rename(temporary_path, path)
    return path


def copy_version(source, folder, version):
    """Copies a version to another number, atomically."""
    temporary_path = Path(folder) / f".copy-{version}"
    shutil.copytree(source, temporary_path)
    os.rename(temporary_path, Path(folder) / str(version))


def direct(folder):
    """Returns the signatures as functions from keyword arrays to a dict of arrays, by plain TensorFlow."""
    loaded = tf.saved_model.load(str(folder))

    def caller(function):
        specs = function.structured_input_signature[1]

        def call(**inputs):
            tensors = {name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
            return {name: value.numpy() for name, value in function(**tensors).items()}

        return call

    call = {name: caller(function) for name, function in loaded.signatures.items()}
    call["keep"] = loaded  # keeps the variables alive
    return call


def make_inputs(rows, seed=0):
    """Returns latent (B, D) and label (B,) as lists."""
    rng = np.random.default_rng(seed)
    return {
        "latent": rng.standard_normal((rows, LATENT_DIM), np.float32).tolist(),
        "label": rng.integers(0, NUM_CLASSES, rows).tolist(),
    }
