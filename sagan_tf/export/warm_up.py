"""Requests that TensorFlow Serving runs on a new version before it takes it into service."""

import tensorflow as tf


def write_warm_up(folder, model_name, signatures):
    """Writes one request a signature into a SavedModel.

    Args:
        folder: pathlib.Path of the SavedModel.
        model_name: Under which it is served.
        signatures: list of `Signature`.

    Returns:
        bool: False, with a line on stdout, where `tensorflow-serving-api` is not installed.

    Source: https://www.tensorflow.org/tfx/serving/saved_model_warmup.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError:
        print("No warm-up requests: `pip install 'sagan-tf[serving]'` brings what they need.")
        return False
    extra = folder / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for signature in signatures:
            log = prediction_log_pb2.PredictionLog()
            _fill(log.predict_log.request, model_name, signature)
            writer.write(log.SerializeToString())
    return True


def _fill(request, model_name, signature):
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature.name
    for name, value in signature.example.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
