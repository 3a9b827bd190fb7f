"""From a trained generator to what runs elsewhere: SavedModel, TFLite, ONNX, a `.keras` file."""

from sagan_tf.export.keras_file import export_keras as export_keras
from sagan_tf.export.onnx_file import export_onnx as export_onnx
from sagan_tf.export.saved_model import export_saved_model as export_saved_model
from sagan_tf.export.tflite import export_tflite as export_tflite
from sagan_tf.generation.folding import FoldedGenerator as FoldedGenerator
from sagan_tf.generation.folding import fold_generator as fold_generator
