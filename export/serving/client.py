"""Requests images from TensorFlow Serving or `python -m sagan_tf.serve`.

    python client.py --seed 7 --label 3 --out picture.png                         # REST: standard library only
    python client.py --seed 7 --label 3 --out picture.png --grpc 127.0.0.1:8500   # needs tensorflow-serving-api

The same seed gives the same image, independent of other requests.
"""

import argparse
import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

REST, MODEL, SECONDS = "http://127.0.0.1:8501", "sagan", 60


def sample_by_rest(seeds, labels=None, truncations=None, address=REST, model=MODEL, version=None):
    """Requests images over HTTP.

    Args:
        seeds: list of int, N of them.
        labels: list of N ints; None for a model without classes.
        truncations: list of N floats > 0; None for 6, the full normal distribution.
        address: URL of the server.
        model: Name of the served model.
        version: int, or None for the newest.

    Returns:
        list of N PNG files as bytes.

    Raises:
        RuntimeError: The server rejects the request or does not answer.
    """
    columns = {"seed": seeds, "truncation": truncations or [6.0] * len(seeds)}
    if labels is not None:
        columns["label"] = labels
    rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    body = json.dumps({"signature_name": "sample", "instances": rows}).encode()
    path = f"/v1/models/{model}" + ("" if version is None else f"/versions/{version}")
    try:
        with urllib.request.urlopen(f"{address}{path}:predict", data=body, timeout=SECONDS) as answer:
            return [base64.b64decode(value["b64"]) for value in json.load(answer)["predictions"]]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{error.code}: {_reason(error.read())}") from None
    except OSError as error:
        raise RuntimeError(f"{address} does not answer: {error}") from None


def _reason(body):
    try:
        return json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")


def sample_by_grpc(seeds, labels=None, truncations=None, address="127.0.0.1:8500", model=MODEL, version=None):
    """Requests images over gRPC; arguments, result and errors as in `sample_by_rest`.

    Args:
        address: "host:port" of the server.
    """
    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            answer = stub.Predict(make_request(seeds, labels, truncations, model, version), timeout=SECONDS)
        except grpc.RpcError as error:
            raise RuntimeError(f"{error.code().name}: {error.details()}") from None
    return list(answer.outputs["image_bytes"].string_val)


def make_request(seeds, labels=None, truncations=None, model=MODEL, version=None):
    """Makes the PredictRequest of `sample_by_grpc`."""
    import numpy as np
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, "sample"
    if version is not None:
        request.model_spec.version.value = version
    inputs = {"seed": np.array(seeds, np.int64)}
    inputs["truncation"] = np.array(truncations or [6.0] * len(seeds), np.float32)
    if labels is not None:
        inputs["label"] = np.array(labels, np.int32)
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return request


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="any integer (default 0)")
    parser.add_argument("--label", type=int, help="class; omit for a model without classes")
    parser.add_argument("--truncation", type=float, default=6.0, help="above 0; smaller is more typical (default 6)")
    parser.add_argument("--out", type=Path, default=Path("picture.png"), help="PNG file (default picture.png)")
    parser.add_argument("--model", default=MODEL, help=f"name of the served model (default {MODEL})")
    parser.add_argument("--version", type=int, help="default: the newest")
    parser.add_argument("--rest", default=REST, metavar="URL", help=f"default {REST}")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="use this gRPC server instead")
    options = parser.parse_args(argv)
    ask, address = (sample_by_grpc, options.grpc) if options.grpc else (sample_by_rest, options.rest)
    labels = None if options.label is None else [options.label]
    try:
        (png,) = ask([options.seed], labels, [options.truncation], address, options.model, options.version)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    options.out.write_bytes(png)
    print(f"{options.out}: {len(png)} bytes")


if __name__ == "__main__":
    main()
