"""Warm-up requests, which TensorFlow Serving runs on a new version before it serves it.

Source: https://www.tensorflow.org/tfx/serving/saved_model_warmup.
"""

import tensorflow as tf

from sagan_tf.errors import install_hint


def write_warm_up(folder, model_name, signatures):
    """Writes one request per signature into a SavedModel; prints a line if `tensorflow-serving-api` is missing."""
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError:
        print(f"No warm-up requests: their packages are not installed. {install_hint('serving')}")
        return
    extra = folder / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for signature in signatures:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name, request.model_spec.signature_name = model_name, signature.name
            for name, value in signature.example.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())
