"""CPU time of a request: our server with a model that does nothing, against its frameworks alone.

    python benchmarks/serving_floor.py

Starts two servers. One is that of `sagan_tf.serve`, with a model whose `sample` waits as long as generating would take
and returns constant files. The other is the minimum that the frameworks allow (aiohttp with a route and a middleware,
grpc.aio with a bytes handler): it reads the request, waits for the batch, and sends a constant response. Both run on
uvloop and batch up to 64 requests of 128 clients. Prints the server's CPU milliseconds per request, medians of
interleaved rounds. Linux; needs `pip install '.[serving,test]'`. Text: docs/serving.md.
"""

import argparse
import asyncio
import base64
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from reporting import markdown_table
from serving_client import CALLERS, measure_server

from sagan_tf.serving.loaded_version import Signature
from sagan_tf.serving.server import Server, new_event_loop, serve

CLIENTS, BATCH, SECONDS_PER_IMAGE = 128, 64, 0.0004
PICTURE = b"\x89PNG\r\n\x1a\n\0" + os.urandom(1030)  # size of a 32 px PNG file


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each server (default 7)")
    parser.add_argument("--seconds", type=float, default=1.5, help="duration of a measurement (default 1.5)")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run({"ours": serve_ours, "floor": serve_floor}[options.serve[0]](options.serve[1]))
    else:
        compare(options)


def compare(options):
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        export_nothing(Path(folder) / "sagan" / "1")
        servers = {name: start_server(name, folder) for name in ("ours", "floor")}
        try:
            for _ in range(options.rounds):
                for protocol in reversed(CALLERS):
                    for name, (process, addresses) in servers.items():
                        load = (protocol, 1, CLIENTS)
                        measurement = measure_server(process, addresses, load, 4, options.seconds, 0.3)
                        cpu_ms = asyncio.run(measurement)["processor"]
                        results.setdefault((protocol, name), []).append(cpu_ms)
        finally:
            for process, _ in servers.values():
                process.kill()
    rows = [
        [protocol, name, f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"]
        for (protocol, name), values in results.items()
    ]
    print(markdown_table(["protocol", "server", "CPU ms per request"], rows))


def start_server(name, folder):
    command = [sys.executable, __file__, "--serve", name, folder]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("ports "):
            _, rest_address, grpc_address = line.split()
            return psutil.Process(process.pid), {"REST": f"http://{rest_address}", "gRPC": grpc_address}
    raise RuntimeError(f"The server {name} did not start.")


def export_nothing(folder):
    """Writes a SavedModel whose `sample` has the inputs of an exported generator."""
    import tensorflow as tf

    def sample(seed, label, truncation):
        return {"image_bytes": tf.where(seed < 0, PICTURE, PICTURE)}

    specs = {"seed": tf.int64, "label": tf.int32, "truncation": tf.float32}
    specs = [tf.TensorSpec([None], dtype, name) for name, dtype in specs.items()]
    module = tf.Module()
    module.sample = tf.function(sample, input_signature=specs)
    tf.saved_model.save(module, str(folder), signatures={"sample": module.sample})


async def serve_ours(folder):
    run = Signature.run

    def waiting(self, inputs):
        time.sleep(SECONDS_PER_IMAGE * len(inputs["seed"]))
        return run(self, inputs)

    Signature.run = waiting
    server = Server(folder, log=lambda line: None)
    await serve(server, lambda line: print("ports", server.rest_address, server.grpc_address, flush=True))


async def serve_floor(folder):
    import grpc
    from aiohttp import web
    from tensorflow_serving.apis import predict_pb2

    waiting = []

    async def batch():
        done = asyncio.get_running_loop().create_future()
        waiting.append(done)
        await done

    async def answer_batches():
        while True:
            now = waiting[:BATCH]
            del waiting[:BATCH]
            await asyncio.sleep(SECONDS_PER_IMAGE * max(1, len(now)))
            for done in now:
                done.done() or done.set_result(None)

    response = predict_pb2.PredictResponse()
    response.outputs["image_bytes"].string_val.append(PICTURE)
    message, text = response.SerializeToString(), b'{"outputs": ["%s"]}' % base64.b64encode(PICTURE)

    async def predict(request, context):
        await batch()
        return message

    async def post(request):
        await request.read()
        await batch()
        return web.Response(body=text, content_type="application/json")

    @web.middleware
    async def middleware(request, handler):
        return await handler(request)

    app = web.Application(middlewares=[middleware])
    app.router.add_route("*", "/v1/{rest:.*}", post)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server = grpc.aio.server()
    handlers = {"Predict": grpc.unary_unary_rpc_method_handler(predict)}
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"ports 127.0.0.1:{runner.addresses[0][1]} 127.0.0.1:{port}", flush=True)
    await answer_batches()


if __name__ == "__main__":
    main()
