"""From a trained generator to what runs elsewhere: SavedModel, TFLite, ONNX, a `.keras` file."""

from typing import TYPE_CHECKING

from sagan_tf.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from sagan_tf.export.keras_file import export_keras as export_keras
    from sagan_tf.export.onnx_file import export_onnx as export_onnx
    from sagan_tf.export.saved_model import export_saved_model as export_saved_model
    from sagan_tf.export.tflite import export_tflite as export_tflite
    from sagan_tf.generation.folding import FoldedGenerator as FoldedGenerator
    from sagan_tf.generation.folding import fold_generator as fold_generator

# Lazily: the command's help needs no TensorFlow.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "FoldedGenerator": "sagan_tf.generation.folding",
        "export_keras": "sagan_tf.export.keras_file",
        "export_onnx": "sagan_tf.export.onnx_file",
        "export_saved_model": "sagan_tf.export.saved_model",
        "export_tflite": "sagan_tf.export.tflite",
        "fold_generator": "sagan_tf.generation.folding",
    },
)
