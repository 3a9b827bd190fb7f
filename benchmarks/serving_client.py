"""Measures a server from outside: throughput and latency by `export/serving/load_test.py`, CPU time by psutil."""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "export" / "serving"))
from load_test import grpc_caller, make_requests, measure, rest_caller  # noqa: E402

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
CALLERS = {"gRPC": grpc_caller, "REST": rest_caller}


async def measure_server(process, addresses, load, classes, seconds, warm_up_seconds=0.5):
    """Measures a server, given its psutil.Process, under a load of (protocol, images per request, clients)."""
    protocol, rows, clients = load
    call, close = await CALLERS[protocol](addresses[protocol], "sagan", make_requests(rows, classes))
    await measure(call, clients, warm_up_seconds, warm_up=0)
    before, start = process.cpu_times(), time.perf_counter()
    result = await measure(call, clients, seconds, warm_up=0)
    after, elapsed = process.cpu_times(), time.perf_counter() - start
    await close()
    if result["failures"]:
        raise RuntimeError(f"{result['failures']} requests failed: {load}")
    images = rows * result["requests_per_second"]
    return {
        "images": images,  # per second
        "p50": result["p50_ms"],
        "p99": result["p99_ms"],
        "client": result["processor_ms"] / 1e3 * result["requests_per_second"] / CORES,  # its share of the cores
        # CPU ms of the server per image
        "processor": 1e3 * (after.user + after.system - before.user - before.system) / images / elapsed,
    }
