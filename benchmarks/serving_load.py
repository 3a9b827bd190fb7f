"""Throughput of `python -m sagan_tf.serve` against direct calls of the same model.

    python benchmarks/serving_load.py RUN
    python benchmarks/serving_load.py --drawn 64 32 --server_alone --seconds 8 --rounds 3

Exports the generator of a run folder, or a random one of the given pixels and channels, starts the server on free ports
and prints a Markdown table, in about three minutes. All rows are measured interleaved, and the medians over the rounds
are printed, so that load on the machine affects all alike. The client shares the cores with the server; the table lists
its share. Needs `pip install '.[serving,tflite,test]'`. Text: docs/serving.md.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import keras
import numpy as np
import psutil
from export_formats import CORES, draw_inputs, saved_model_caller, table, tflite_caller

from sagan_tf.export import export_saved_model, export_tflite, fold_generator
from sagan_tf.networks import build_generator
from sagan_tf.runs.environment import describe_environment
from sagan_tf.runs.folder import Run
from sagan_tf.serving.loaded_version import LoadedVersion

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "export" / "serving"))
from load_test import grpc_caller, make_requests, measure, rest_caller  # noqa: E402

PROTOCOLS = ("gRPC", "REST")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", nargs="?", help="run folder")
    parser.add_argument("--drawn", type=int, nargs=2, metavar=("PX", "CHANNELS"), help="use a random generator")
    parser.add_argument("--server_alone", action="store_true", help="omit `predict` and the other formats")
    parser.add_argument("--batch", type=int, default=64, help="batch size (default 64)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each row (default 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of a measurement (default 2)")
    options = parser.parse_args()
    if (options.run is None) == (options.drawn is None):
        parser.error("give a run folder or --drawn")
    if options.run:
        generator = keras.models.load_model(Run.open(options.run).generator_path, compile=False)
    else:
        generator = build_generator(*options.drawn, num_classes=10, attention_sizes=[min(32, options.drawn[0] // 2)])
    machine = describe_environment()
    print(f"{machine['cpu']}, {CORES} cores, TensorFlow {machine['tensorflow']}, medians of {options.rounds} rounds\n")
    with tempfile.TemporaryDirectory() as folder:
        print(compare(generator, Path(folder), options))


def compare(generator, folder, options):
    folded = fold_generator(generator)
    version = export_saved_model(folded, folder / "models" / "sagan")
    bare = sample_callers(folded, version, options.batch)
    if not options.server_alone:
        bare |= other_callers(generator, folded, version, folder, options.batch)
    # (images per request, clients); 2.5 batches of clients keep two batches running while requests arrive.
    loads = [(1, 1), (1, 2 * options.batch), (1, 5 * options.batch // 2), (8, options.batch // 4)]
    loads = [(protocol, *load) for protocol in PROTOCOLS for load in loads]
    found = {name: [] for name in [*bare, *loads]}
    with served(folder / "models", options.batch) as (process, addresses):
        for _ in range(options.rounds):
            for name, call in bare.items():
                found[name].append(measure_bare(*call, options.seconds))
            for load in loads:
                measured = measure_server(load, addresses, process, folded.num_classes, options.seconds)
                found[load].append(asyncio.run(measured))
    return report(found, options.batch)


def sample_callers(folded, version, batch):
    """name -> (function without arguments, images per call, calling threads)."""
    call, callers = LoadedVersion(str(version)).signature("sample").run, {}
    for rows, threads, words in ((1, 1, ""), (batch, 1, ""), (batch, 2, ", two concurrent calls")):
        arrays = {"seed": np.arange(rows), "truncation": np.ones(rows, np.float32)}
        if folded.num_classes:
            arrays["label"] = np.arange(rows, dtype=np.int32) % folded.num_classes
        callers[f"`sample` (PNG), batch {rows}{words}"] = (lambda arrays=arrays: call(arrays), rows, threads)
    return callers


def other_callers(generator, folded, version, folder, batch):
    """The same for calls that return an image array."""
    latents = draw_inputs(folded, batch)
    tflite = export_tflite(folded, folder / "tflite", variants=("float32", "dynamic_int8"))
    keras_inputs = list(latents) if len(latents) > 1 else latents[0]
    callers = {"Keras `predict`": lambda: generator.predict(keras_inputs, batch_size=batch, verbose=0)}
    formats = {f"TFLite {variant}": tflite_caller(path) for variant, path in tflite.items()}
    for name, call in {"SavedModel": saved_model_caller(version), **formats}.items():
        callers[f"{name}, batch {batch}"] = lambda call=call: call(*latents)
    return {name: (call, batch, 1) for name, call in callers.items()}


def measure_bare(call, rows, threads, seconds):
    call()
    times, begun, processor = [], time.perf_counter(), time.process_time()

    def repeat():
        while (start := time.perf_counter()) < begun + seconds:
            call()
            times.append(time.perf_counter() - start)

    callers = [threading.Thread(target=repeat) for _ in range(threads)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    # From the mean time of a call, because at the end one thread may run alone.
    images = rows * threads / np.mean(times)
    processor = 1e3 * (time.process_time() - processor) / rows / len(times)
    return {
        "images": images, "p50": 1e3 * np.median(times), "p99": 1e3 * np.percentile(times, 99), "processor": processor
    }  # fmt: skip


async def measure_server(load, addresses, process, classes, seconds):
    protocol, rows, clients = load
    make = grpc_caller if protocol == "gRPC" else rest_caller
    call, close = await make(addresses[protocol], "sagan", make_requests(rows, classes))
    await measure(call, clients, 0.5, warm_up=0)
    before, begun = process.cpu_times(), time.perf_counter()
    result = await measure(call, clients, seconds, warm_up=0)
    after, took = process.cpu_times(), time.perf_counter() - begun
    await close()
    if result["failures"]:
        raise RuntimeError(f"{result['failures']} requests failed: {load}")
    images = rows * result["requests_per_second"]
    return {
        "images": images, "p50": result["p50_ms"], "p99": result["p99_ms"],
        "client": result["processor_ms"] / 1e3 * result["requests_per_second"] / CORES,
        "processor": 1e3 * (after.user + after.system - before.user - before.system) / images / took,
    }  # fmt: skip


class served:  # noqa: N801 (used as a function)
    """Runs the server in a process for the duration of the block."""

    def __init__(self, folder, batch):
        options = ["--rest_port", "0", "--port", "0", "--max_batch_size", str(batch)]
        self._command = [sys.executable, "-m", "sagan_tf.serve", str(folder), *options]

    def __enter__(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        for line in self._process.stdout:
            if match := re.match(r"REST on (\S+)/v1/models, gRPC on (\S+)", line):
                return psutil.Process(self._process.pid), {"REST": match[1], "gRPC": match[2]}
        raise RuntimeError("the server did not start")

    def __exit__(self, *exception):
        self._process.terminate()
        self._process.wait()


def report(found, batch):
    one, two = (f"`sample` (PNG), batch {batch}{words}" for words in ("", ", two concurrent calls"))
    rows = []
    for name, results in found.items():
        median = {key: np.median([result[key] for result in results]) for key in results[0]}
        title = name if isinstance(name, str) else "server, {}: {} per request, {} clients".format(*name)
        row = [title, *(f"{median[key]:.{digits}f}" for key, digits in (("images", 0), ("p50", 1), ("p99", 1)))]
        row += [f"{median['processor']:.2f}", "-", "-", "-"]
        if not isinstance(name, str):
            row[5] = f"{median['client']:.0%}"
            if name[1] * name[2] >= batch:  # full batches
                row[6:] = [f"{overhead(results, found[bare]):.0%}" for bare in (one, two)]
        rows.append(row)
    heads = ["", "images/s", "p50, ms", "p99, ms", "CPU ms per image", "client's share of the cores", "overhead",
             "vs. two concurrent calls"]  # fmt: skip
    return (
        f"{table(heads, rows)}\n\nOverhead: throughput lost, on the cores that the client leaves free, against "
        f"direct calls of `sample` at batch {batch}, one or two at a time; the median over the rounds."
    )


def overhead(results, bare):
    return np.median(
        [1 - result["images"] / (1 - result["client"]) / one["images"] for result, one in zip(results, bare)]
    )


if __name__ == "__main__":
    main()
