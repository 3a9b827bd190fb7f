"""The export formats of the command, by name."""

from sagan_tf.export.format_names import FORMAT_NAMES
from sagan_tf.export.keras_file import export_keras
from sagan_tf.export.onnx_file import export_onnx
from sagan_tf.export.saved_model import export_saved_model
from sagan_tf.export.tflite import export_tflite
from sagan_tf.export.web import export_web


def _saved_model(folded, folder, options, training):
    return [export_saved_model(folded, folder / "saved_model" / options.name, version=options.version)]


def _tflite(folded, folder, options, training):
    return list(export_tflite(folded, folder / "tflite").values())


def _keras(folded, folder, options, training):
    return [export_keras(folded, folder / "keras" / "generator.keras")]


def _onnx(folded, folder, options, training):
    return [export_onnx(folded, folder / "onnx" / "generator.onnx")]


def _web(folded, folder, options, training):
    # The title of the page is the run's name, unless the user names the model.
    name = options.run if options.name == type(options).name else options.name
    return [export_web(folded, folder / "web", name=name, training=training, node_modules=options.node_modules)]


# Name -> function of (FoldedGenerator, folder of the export, `ExportOptions`, dict of `describe_training`) that returns
# the pathlib.Paths of the files and folders that it wrote into the folder.
FORMATS = dict(zip(FORMAT_NAMES, (_saved_model, _tflite, _keras, _onnx, _web), strict=True))
