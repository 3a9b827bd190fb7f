"""Prometheus metrics of the server."""

import functools

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Metrics of one server.

    Attributes:
        registry: prometheus_client.CollectorRegistry of this server.
        count: Function of (model, signature, protocol, HTTP status) that returns the counter of these requests;
            refused requests are counted too.
        seconds: Histogram of the time from a parsed request to its outputs, by model and signature.
        rows: Histogram of the rows per batch, by model and signature.
        run_seconds: Histogram of the time inside TensorFlow, by model and signature.
        version: Gauge of the version that is served, by model.
    """

    def __init__(self):
        self.registry = CollectorRegistry()
        labels = ["model", "signature"]
        options = {"namespace": "sagan_serving", "registry": self.registry}
        requests = Counter("requests", "Requests, by outcome.", [*labels, "protocol", "status"], **options)
        # Finding a child by its labels takes longer than counting; there are few children.
        self.count = functools.cache(requests.labels)
        self.seconds = Histogram(
            "request_seconds", "From a parsed request to its outputs.", labels, buckets=_SECONDS, **options
        )
        self.rows = Histogram("batch_rows", "Rows run together.", labels, buckets=_ROWS, **options)
        self.run_seconds = Histogram("run_seconds", "Inside TensorFlow.", labels, buckets=_SECONDS, **options)
        self.version = Gauge("version", "Version that is served.", ["model"], **options)
