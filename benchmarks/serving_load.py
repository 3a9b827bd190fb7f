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
import contextlib
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
from export_formats import draw_inputs, saved_model_caller, tflite_caller
from reporting import describe_machine, markdown_table
from serving_client import CALLERS, CORES, measure_server

from sagan_tf.export import export_saved_model, export_tflite, fold_generator
from sagan_tf.networks import build_generator
from sagan_tf.runs.folder import Run
from sagan_tf.serving.loaded_version import LoadedVersion


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
    machine = describe_machine()
    print(f"{machine['cpu']}, {CORES} cores, TensorFlow {machine['tensorflow']}, medians of {options.rounds} rounds\n")
    with tempfile.TemporaryDirectory() as folder:
        print(compare(generator, Path(folder), options))


def compare(generator, folder, options):
    folded = fold_generator(generator)
    version = export_saved_model(folded, folder / "models" / "sagan")
    direct = sample_callers(folded, version, options.batch)
    if not options.server_alone:
        direct |= other_callers(generator, folded, version, folder, options.batch)
    # (images per request, clients); 2.5 batches of clients keep two batches running while requests arrive.
    loads = [(1, 1), (1, 2 * options.batch), (1, 5 * options.batch // 2), (8, options.batch // 4)]
    loads = [(protocol, *load) for protocol in CALLERS for load in loads]
    results = {name: [] for name in [*direct, *loads]}
    with run_server(folder / "models", options.batch) as (process, addresses):
        for _ in range(options.rounds):
            for name, call in direct.items():
                results[name].append(measure_direct(*call, options.seconds))
            for load in loads:
                measurement = measure_server(process, addresses, load, folded.num_classes, options.seconds)
                results[load].append(asyncio.run(measurement))
    return report(results, options.batch)


def sample_callers(folded, version, batch):
    """name -> (function without arguments, images per call, calling threads)."""
    call, callers = LoadedVersion(str(version)).signature("sample").run, {}
    for rows, threads, text in ((1, 1, ""), (batch, 1, ""), (batch, 2, ", two concurrent calls")):
        arrays = {"seed": np.arange(rows), "truncation": np.ones(rows, np.float32)}
        if folded.num_classes:
            arrays["label"] = np.arange(rows, dtype=np.int32) % folded.num_classes
        callers[f"`sample` (PNG), batch {rows}{text}"] = (lambda arrays=arrays: call(arrays), rows, threads)
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


def measure_direct(call, rows, threads, seconds):
    call()
    times, begin, cpu_begin = [], time.perf_counter(), time.process_time()

    def repeat():
        while (start := time.perf_counter()) < begin + seconds:
            call()
            times.append(time.perf_counter() - start)

    callers = [threading.Thread(target=repeat) for _ in range(threads)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    # From the mean time of a call, because at the end one thread may run alone.
    images = rows * threads / np.mean(times)
    return {
        "images": images,
        "p50": 1e3 * np.median(times),
        "p99": 1e3 * np.percentile(times, 99),
        "processor": 1e3 * (time.process_time() - cpu_begin) / rows / len(times),
    }


@contextlib.contextmanager
def run_server(folder, batch):
    """Runs the server; yields its psutil.Process and its addresses by protocol."""
    options = ["--rest_port", "0", "--port", "0", "--max_batch_size", str(batch)]
    command = [sys.executable, "-m", "sagan_tf.serve", str(folder), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if match := re.match(r"REST on (\S+)/v1/models, gRPC on (\S+)", line):
                break
        else:
            raise RuntimeError("The server did not start.")
        yield psutil.Process(process.pid), {"REST": match[1], "gRPC": match[2]}
    finally:
        process.terminate()
        process.wait()


def report(results, batch):
    single, double = (f"`sample` (PNG), batch {batch}{text}" for text in ("", ", two concurrent calls"))
    rows = []
    for name, measurements in results.items():
        median = {key: np.median([each[key] for each in measurements]) for key in measurements[0]}
        is_server = not isinstance(name, str)
        row = [
            "server, {}: {} per request, {} clients".format(*name) if is_server else name,
            f"{median['images']:.0f}",
            f"{median['p50']:.1f}",
            f"{median['p99']:.1f}",
            f"{median['processor']:.2f}",
            f"{median['client']:.0%}" if is_server else "-",
        ]
        if is_server and name[1] * name[2] >= batch:  # full batches
            row += [f"{overhead(measurements, results[direct]):.0%}" for direct in (single, double)]
        else:
            row += ["-", "-"]
        rows.append(row)
    heads = ["", "images/s", "p50, ms", "p99, ms", "CPU ms per image", "client's share of the cores", "overhead",
             "vs. two concurrent calls"]  # fmt: skip
    return (
        f"{markdown_table(heads, rows)}\n\nOverhead: throughput lost, on the cores that the client leaves free, "
        f"against direct calls of `sample` at batch {batch}, one or two at a time; the median over the rounds."
    )


def overhead(server, direct):
    return np.median([1 - a["images"] / (1 - a["client"]) / b["images"] for a, b in zip(server, direct)])


if __name__ == "__main__":
    main()
