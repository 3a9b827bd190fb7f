"""Measures throughput and latency of a server under concurrent clients.

    python load_test.py --classes 10                                              # REST
    python load_test.py --classes 10 --grpc 127.0.0.1:8500 --clients 1,8,32 --rows 4

Works with TensorFlow Serving and `sagan serve`; needs `pip install '.[serving]'`. Each client sends
its next request when the previous one is answered. The exit code is 1 if a response does not hold the requested PNG
files. Written here since none of the established tools speaks both protocols and installs with pip (locust: no gRPC;
ghz: gRPC only; k6: not Python).
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time

from client import MODEL, REST, make_request

_PNG = b"\x89PNG"
_PNG_IN_BASE64 = b"iVBORw0KGgo"


async def rest_caller(address, model, requests):
    """Returns a coroutine function that sends request i and tells whether it succeeded, and one that closes."""
    import aiohttp

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    bodies = [json.dumps({"signature_name": "sample", "inputs": _without_none(inputs)}).encode() for inputs in requests]
    url, rows = f"{address}/v1/models/{model}:predict", len(requests[0]["seed"])

    async def call(i):
        try:
            async with session.post(url, data=bodies[i % len(bodies)]) as response:
                return response.status == 200 and (await response.read()).count(_PNG_IN_BASE64) == rows
        except (aiohttp.ClientError, TimeoutError):
            return False

    return call, session.close


async def grpc_caller(address, model, requests):
    """As `rest_caller`, over gRPC."""
    import grpc
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    channel = grpc.aio.insecure_channel(address)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    messages = [make_request(x["seed"], x["label"], x["truncation"], model) for x in requests]
    rows = len(requests[0]["seed"])

    async def call(i):
        try:
            response = await stub.Predict(messages[i % len(messages)])
        except grpc.RpcError:
            return False
        files = response.outputs["image_bytes"].string_val
        return len(files) == rows and all(file[:4] == _PNG for file in files)

    return call, channel.close


def _without_none(inputs):
    return {name: value for name, value in inputs.items() if value is not None}


def make_requests(rows, classes, count=256):
    """Returns `count` inputs of `sample`, with different seeds."""
    starts = range(0, count * rows, rows)
    return [
        {
            "seed": list(range(start, start + rows)),
            "label": None if classes is None else [i % classes for i in range(start, start + rows)],
            "truncation": [1.0] * rows,
        }
        for start in starts
    ]


async def measure(call, clients, seconds, warm_up=1.0):
    """Keeps `clients` requests in flight; returns throughput, latencies, failures and the client's CPU time."""
    numbers, latencies, failures = iter(range(10**12)), [], 0
    start = time.perf_counter() + warm_up
    end, processor = start + seconds, None

    async def client():
        nonlocal failures, processor
        while (begun := time.perf_counter()) < end:
            if processor is None and begun >= start:
                processor = time.process_time()
            failures += not await call(next(numbers))
            if begun >= start:
                latencies.append(time.perf_counter() - begun)

    await asyncio.gather(*(client() for _ in range(clients)))
    if not latencies:
        sys.exit(f"error: all requests began within the warm-up of {warm_up:g} s. Use more --seconds, or fewer --rows.")
    took = time.perf_counter() - start
    quantiles = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else latencies * 99
    return {
        "clients": clients, "failures": failures, "requests_per_second": len(latencies) / took,
        "processor_ms": 1e3 * (time.process_time() - processor) / len(latencies),
        **{f"p{q}_ms": 1e3 * quantiles[q - 1] for q in (50, 95, 99)},
    }  # fmt: skip


async def run(options):
    requests = make_requests(options.rows, options.classes)
    make_caller, address = (grpc_caller, options.grpc) if options.grpc else (rest_caller, options.rest)
    call, close = await make_caller(address, options.model, requests)
    results = []
    try:
        for clients in options.clients:
            results.append(await measure(call, clients, options.seconds))
            report(results[-1], options)
    finally:
        await close()
    return results


def report(result, options):
    if options.json:
        print(json.dumps(result), flush=True)
        return
    if result["clients"] == options.clients[0]:
        print("clients | requests/s | images/s | p50 ms | p95 ms | p99 ms | failed")
    print(
        f"{result['clients']:7d} | {result['requests_per_second']:10.1f} | "
        f"{result['requests_per_second'] * options.rows:8.1f} | {result['p50_ms']:6.1f} | {result['p95_ms']:6.1f} | "
        f"{result['p99_ms']:6.1f} | {result['failures']}", flush=True,
    )  # fmt: skip


def main(argv=None):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rest", default=REST, metavar="URL", help=f"default {REST}")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="use this gRPC server instead")
    parser.add_argument("--model", default=MODEL, help=f"name of the served model (default {MODEL})")
    parser.add_argument("--classes", type=int, metavar="N", help="labels 0 to N - 1; omit for a model without classes")
    parser.add_argument("--clients", type=_numbers, default=(1, 8, 32), help="concurrent clients (default 1,8,32)")
    parser.add_argument("--rows", type=int, default=1, help="images per request (default 1)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds per number of clients (default 5)")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    results = asyncio.run(run(parser.parse_args(argv)))
    sys.exit(any(result["failures"] for result in results))


def _numbers(text):
    return tuple(int(number) for number in text.split(","))


if __name__ == "__main__":
    main()
