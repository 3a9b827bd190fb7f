"""What a server costs: pictures a second through `python -m sagan_tf.serve`, against the bare calls that it makes.

    python benchmarks/serving_load.py RUN

takes a run folder, exports it, starts the server on free ports and prints a table as Markdown, in about three minutes.
All rows are measured in turns, round by round, and the medians over the rounds are printed, so that a busy moment of
the machine meets all alike. The client runs on the same cores as the server; what it takes of them has its own column.
Needs `pip install '.[serving,tflite]'`. Text: docs/serving.md.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from export_formats import CORES, draw_inputs, saved_model_caller, table, tflite_caller

from sagan_tf.environment import describe_environment
from sagan_tf.export import export_saved_model, export_tflite, fold_generator
from sagan_tf.runs import Run
from sagan_tf.serving.versions import LoadedVersion

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "export" / "serving"))
from load_test import grpc_caller, make_requests, measure, rest_caller  # noqa: E402

BATCH = 64
# Protocol, pictures a request, clients at a time: twice a full batch, so that one waits while another runs.
LOADS = [(protocol, *load) for protocol in ("gRPC", "REST") for load in ((1, 1), (1, 128), (8, 16))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="run folder")
    parser.add_argument("--rounds", type=int, default=5, help="times that each is measured (default 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (default 2)")
    options = parser.parse_args()
    generator = keras.models.load_model(Run.open(options.run).generator_path, compile=False)
    machine = describe_environment()
    print(f"{machine['cpu']}, {CORES} cores, TensorFlow {machine['tensorflow']}, medians of {options.rounds} rounds\n")
    with tempfile.TemporaryDirectory() as folder:
        print(compare(generator, Path(folder), options))


def compare(generator, folder, options):
    folded = fold_generator(generator)
    version = export_saved_model(folded, folder / "models" / "sagan")
    bare = bare_callers(generator, folded, version, folder)
    classes, found = folded.num_classes, {name: [] for name in [*bare, *LOADS]}
    with served(folder / "models") as addresses:
        for _ in range(options.rounds):
            for name, (call, rows) in bare.items():
                found[name].append(measure_bare(call, rows, options.seconds))
            for load in LOADS:
                found[load].append(asyncio.run(measure_server(load, addresses, classes, options.seconds)))
    return report(found)


def bare_callers(generator, folded, version, folder):
    """name -> (function without arguments, pictures that it makes)."""
    loaded, latents = LoadedVersion(str(version)), draw_inputs(folded, BATCH)
    tflite = export_tflite(folded, folder / "tflite", variants=("float32", "dynamic_int8"))
    keras_inputs = list(latents) if len(latents) > 1 else latents[0]
    callers = {"Keras `predict`": lambda: generator.predict(keras_inputs, batch_size=BATCH, verbose=0)}
    formats = {f"TFLite {variant}": tflite_caller(path) for variant, path in tflite.items()}
    for name, call in {"SavedModel": saved_model_caller(version), **formats}.items():
        callers[f"{name}, batch {BATCH}"] = lambda call=call: call(*latents)
    callers = {name: (call, BATCH) for name, call in callers.items()}
    for rows in (1, BATCH):
        arrays = {"seed": np.arange(rows), "truncation": np.ones(rows, np.float32)}
        if len(latents) > 1:
            arrays["label"] = latents[1][:rows]
        call = loaded.signature("sample").run
        callers[f"`sample` (PNG), batch {rows}"] = (lambda call=call, arrays=arrays: call(arrays), rows)
    return callers


def measure_bare(call, rows, seconds):
    call()
    times, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        call()
        times.append(time.perf_counter() - began)
    return {"images": rows / np.mean(times), "p50": 1e3 * np.median(times), "p99": 1e3 * np.percentile(times, 99)}


async def measure_server(load, addresses, classes, seconds):
    protocol, rows, clients = load
    make = grpc_caller if protocol == "gRPC" else rest_caller
    call, close = await make(addresses[protocol], "sagan", make_requests(rows, classes))
    result = await measure(call, clients, seconds, warm_up=0.5)
    await close()
    if result["failures"]:
        raise RuntimeError(f"{result['failures']} requests failed: {load}")
    return {
        "images": rows * result["requests_per_second"], "p50": result["p50_ms"], "p99": result["p99_ms"],
        "client": result["processor_ms"] / 1e3 * result["requests_per_second"] / CORES,
    }  # fmt: skip


class served:  # noqa: N801 (used as a function)
    """The command in a process of its own, as long as the block lasts."""

    def __init__(self, folder):
        self._command = [sys.executable, "-m", "sagan_tf.serve", str(folder), "--rest_port", "0", "--port", "0"]

    def __enter__(self):
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        for line in self._process.stdout:
            if match := re.match(r"REST on (\S+)/v1/models, gRPC on (\S+)", line):
                return {"REST": match[1], "gRPC": match[2]}
        raise RuntimeError("the server did not start")

    def __exit__(self, *exception):
        self._process.terminate()
        self._process.wait()


def report(found):
    bare = np.median([one["images"] for one in found[f"`sample` (PNG), batch {BATCH}"]])
    rows = []
    for name, results in found.items():
        median = {key: np.median([one[key] for one in results]) for key in results[0]}
        title = name if isinstance(name, str) else "server, {}: {} a request, {} at a time".format(*name)
        row = [title, f"{median['images']:.0f}", f"{median['p50']:.1f}", f"{median['p99']:.1f}", "-", "-"]
        if not isinstance(name, str):
            row[4] = f"{median['client']:.0%}"
            if name[1] * name[2] >= BATCH:  # full batches
                row[5] = f"{1 - median['images'] / bare / (1 - median['client']):.0%}"
        rows.append(row)
    heads = ["", "images/s", "p50, ms", "p99, ms", "client's share of the cores", "server's overhead"]
    return (
        f"{table(heads, rows)}\n\nOverhead: what is missing, of the cores that the client leaves, to the images/s of "
        f"the bare `sample` at batch {BATCH}."
    )


if __name__ == "__main__":
    main()
