"""The generator as an ONNX file, by tf2onnx."""

from pathlib import Path

import tensorflow as tf

from sagan_tf.errors import UserError
from sagan_tf.files.atomic import write_bytes
from sagan_tf.generation.folding import as_folded

OPSET = 18


def export_onnx(generator, path):
    """Writes a generator as an ONNX file.

    Inputs `latent` (B, D) float32 and, with classes, `label` (B,) int32; outputs `image` (B, S, S, C) float32 in
    [-1, 1] and, by its name, the map (B, N, M) of every attention layer. B may be any size. A label out of range,
    -1 too, is an error.

    Args:
        generator: `FoldedGenerator`, or keras.Model [latent, label] or latent -> image, which is folded.
        path: Of the file; its folder is made.

    Returns:
        pathlib.Path.

    Raises:
        UserError: `tf2onnx` is not installed.
        ValueError: The generator cannot be folded.
    """
    try:
        import tf2onnx
    except ImportError:
        raise UserError("ONNX: tf2onnx is not installed; `pip install 'sagan-tf[onnx]'` brings it.") from None
    folded = as_folded(generator)
    specs = [tf.TensorSpec([None, folded.latent_dim], tf.float32, name="latent")]
    if folded.num_classes is not None:
        specs.append(tf.TensorSpec([None], tf.int32, name="label"))

    def network(latent, *label):
        # ONNX counts negative labels from the end; beyond the end there is an error.
        return folded.generate(latent, *(tf.where(one < 0, folded.num_classes, one) for one in label))

    model, _ = tf2onnx.convert.from_function(tf.function(network, autograph=False), specs, opset=OPSET)
    write_bytes(path, model.SerializeToString())
    return Path(path)
