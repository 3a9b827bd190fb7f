"""Client for TensorFlow Serving and `sagan serve`: writes one generated image as a PNG file.

    python client.py --seed 7 --label 3 --out image.png                         # REST: needs only Python
    python client.py --seed 7 --label 3 --out image.png --grpc 127.0.0.1:8500   # needs tensorflow-serving-api

The same seed always gives the same image.
"""

import argparse
import base64
import http.client
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

REST, MODEL, TIMEOUT_SECONDS = "http://127.0.0.1:8501", "sagan", 60
NO_TRUNCATION = 6.0


def sample_by_rest(seeds, labels=None, truncations=None, address=REST, model=MODEL, version=None):
    """Requests images over HTTP.

    Args:
        seeds: list of N ints.
        labels: list of N ints; None for a model without classes.
        truncations: list of N floats > 0; None for no truncation.
        address: URL of the server.
        model: Name of the served model.
        version: int; None for the newest.

    Returns:
        list of N PNG files as bytes.

    Raises:
        RuntimeError: The server rejects the request, with its reason, or does not answer.
    """
    columns = {"seed": seeds, "truncation": truncations or [NO_TRUNCATION] * len(seeds)}
    if labels is not None:
        columns["label"] = labels
    rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    body = json.dumps({"signature_name": "sample", "instances": rows}).encode()
    path = f"/v1/models/{model}" + ("" if version is None else f"/versions/{version}")
    try:
        with urllib.request.urlopen(f"{address}{path}:predict", data=body, timeout=TIMEOUT_SECONDS) as response:
            return [base64.b64decode(value["b64"]) for value in json.load(response)["predictions"]]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{error.code}: {_reason(error)}") from None
    except OSError as error:
        raise RuntimeError(f"{address} does not answer: {error}") from None
    except (http.client.HTTPException, LookupError, TypeError, ValueError) as error:
        raise RuntimeError(f"{address} does not answer as TensorFlow Serving does: {error!r}") from None


def _reason(error):
    try:
        return json.load(error)["error"]
    except (OSError, http.client.HTTPException, LookupError, TypeError, ValueError):  # not of TensorFlow Serving
        return error.reason


def sample_by_grpc(seeds, labels=None, truncations=None, address="127.0.0.1:8500", model=MODEL, version=None):
    """Requests images over gRPC from "host:port"; otherwise as `sample_by_rest`."""
    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            response = stub.Predict(make_request(seeds, labels, truncations, model, version), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise RuntimeError(f"{error.code().name}: {error.details()}") from None
    return list(response.outputs["image_bytes"].string_val)


def make_request(seeds, labels=None, truncations=None, model=MODEL, version=None):
    """Makes a PredictRequest from the arguments of `sample_by_grpc`."""
    import numpy as np
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, "sample"
    if version is not None:
        request.model_spec.version.value = version
    inputs = {"seed": np.array(seeds, np.int64)}
    inputs["truncation"] = np.array(truncations or [NO_TRUNCATION] * len(seeds), np.float32)
    if labels is not None:
        inputs["label"] = np.array(labels, np.int32)
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return request


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="integer (default 0)")
    parser.add_argument("--label", type=int, help="class number; omit for a model without classes")
    parser.add_argument("--truncation", type=float, default=NO_TRUNCATION, help="above 0; smaller: less diverse")
    parser.add_argument("--out", type=Path, default=Path("image.png"), help="PNG file (default image.png)")
    parser.add_argument("--model", default=MODEL, help=f"name of the served model (default {MODEL})")
    parser.add_argument("--version", type=int, help="default: the newest")
    parser.add_argument("--rest", default=REST, metavar="URL", help=f"default {REST}")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="use this gRPC server instead")
    options = parser.parse_args(argv)
    sample, address = (sample_by_grpc, options.grpc) if options.grpc else (sample_by_rest, options.rest)
    labels = None if options.label is None else [options.label]
    try:
        (png,) = sample([options.seed], labels, [options.truncation], address, options.model, options.version)
        options.out.write_bytes(png)
    except (RuntimeError, OSError, OverflowError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{options.out}: {len(png)} bytes")


if __name__ == "__main__":
    main()
