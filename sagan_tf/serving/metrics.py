"""Counters in Prometheus' form."""

import functools

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """What a server counts.

    Attributes:
        registry: prometheus_client.CollectorRegistry, one for each server.
        requests: Counter by model, signature, protocol and HTTP status; refused ones too.
        count: Function of these four that gives the counter of that outcome.
        seconds: Histogram of the time from a parsed request to its outputs, by model and signature.
        rows: Histogram of the rows run together, by model and signature.
        run_seconds: Histogram of the time inside TensorFlow, by model and signature.
        version: Gauge of the version that is served, by model.
    """

    def __init__(self):
        self.registry = CollectorRegistry()
        labels = ["model", "signature"]
        options = {"namespace": "sagan_serving", "registry": self.registry}
        self.requests = Counter("requests", "Requests, by outcome.", [*labels, "protocol", "status"], **options)
        self.seconds = Histogram(
            "request_seconds", "From a parsed request to its outputs.", labels, buckets=_SECONDS, **options
        )
        self.rows = Histogram("batch_rows", "Rows run together.", labels, buckets=_ROWS, **options)
        self.run_seconds = Histogram("run_seconds", "Inside TensorFlow.", labels, buckets=_SECONDS, **options)
        # Looking a child up by its labels takes longer than counting; few are ever made.
        self.count = functools.cache(self.requests.labels)
        self.version = Gauge("version", "Version that is served.", ["model"], **options)
