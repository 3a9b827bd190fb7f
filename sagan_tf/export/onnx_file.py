"""Export as an ONNX file, with tf2onnx."""

from pathlib import Path

import keras
import tensorflow as tf

from sagan_tf.errors import UserError, install_hint
from sagan_tf.files.atomic import write_bytes
from sagan_tf.generation.folding import FoldedGenerator, fold_generator

OPSET = 18


def export_onnx(generator: keras.Model | FoldedGenerator, path: str | Path) -> Path:
    """Writes a generator as an ONNX file.

    Inputs: `latent` (B, D) float32 and, with classes, `label` (B,) int32. Outputs: `image` (B, H, W, C) float32 in
    [-1, 1], and the map (B, N, M) of every attention layer under the name of the layer. B may be any size. A label out
    of range, -1 included, is an error.

    Args:
        generator: `FoldedGenerator`, or keras.Model [latent, label] or latent -> image, which is folded.
        path: Path of the file. Its folder is created.

    Returns:
        pathlib.Path of the file.

    Raises:
        UserError: `tf2onnx` is not installed.
        ValueError: The generator cannot be folded.
    """
    try:
        import tf2onnx
    except ImportError:
        raise UserError(f"ONNX: tf2onnx is not installed. {install_hint('onnx')}") from None
    folded = fold_generator(generator)
    specs = [tf.TensorSpec([None, folded.latent_dim], tf.float32, name="latent")]
    if folded.num_classes is not None:
        specs.append(tf.TensorSpec([None], tf.int32, name="label"))

    def generate(latent, *labels):
        # ONNX counts negative labels from the end; a label beyond the end is an error.
        return folded.generate(latent, *(tf.where(label < 0, folded.num_classes, label) for label in labels))

    model, _ = tf2onnx.convert.from_function(tf.function(generate, autograph=False), specs, opset=OPSET)
    write_bytes(path, model.SerializeToString())
    return Path(path)
