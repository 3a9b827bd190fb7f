"""What the server lets through, and how long it waits; imports nothing of TensorFlow."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Args:
        max_batch_size: Rows run together, and rows of a request, at most.
        batch_timeout: Seconds that a request waits for others at most.
        max_enqueued_batches: Full batches that may wait for one signature; more requests are refused with status 503.
        max_body: Bytes of a request.
        poll_interval: Seconds between looks for new versions.
        drain: Seconds that requests have to end when the server is stopped.
        parallel_batches: Batches run at a time; a second one beside another only when it is full.
    """

    max_batch_size: int = 64
    batch_timeout: float = 0.001
    max_enqueued_batches: int = 100
    max_body: int = 16 << 20
    poll_interval: float = 2.0
    drain: float = 30.0
    parallel_batches: int = 2
