"""Names of the export formats; imports nothing, so that `--help` is fast."""

FORMAT_NAMES = ("saved_model", "tflite", "keras", "onnx", "web")
