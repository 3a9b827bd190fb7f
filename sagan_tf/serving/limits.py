"""Limits and waiting times of the server; does not import TensorFlow."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Args:
        max_batch_size: Maximum number of rows of a batch and of a request; `max_rows` makes it fewer.
        batch_timeout: Seconds that a request waits at most for others.
        max_enqueued_batches: Full batches that may wait per signature; further requests are refused with status 503.
        max_body: Maximum bytes of a request, also when decompressed.
        poll_interval: Seconds between searches for new versions.
        drain: Seconds for requests to finish when the server stops.
        parallel_batches: Batches that run at a time; one starts beside another only if it is full.
        allow_any_graph: Whether to load graphs with operations that may access files and Python, too.
        max_connections: Maximum number of connections per protocol.
        client_timeout: Seconds to wait for a client: for its next request, the rest of a request, or until it has read
            a response.
        allowed_hosts: Names besides `localhost` and addresses that the Host header of a request may have.
    """

    max_batch_size: int = 64
    batch_timeout: float = 0.001
    max_enqueued_batches: int = 100
    max_body: int = 16 << 20
    poll_interval: float = 2.0
    drain: float = 7.0
    parallel_batches: int = 2
    allow_any_graph: bool = False
    max_connections: int = 512
    client_timeout: float = 30.0
    allowed_hosts: tuple = ()

    @property
    def max_bodies(self):
        """Maximum bytes of all large bodies in memory together."""
        return 4 * self.max_body

    def max_rows(self, bytes_per_row):
        """Maximum number of rows of a batch, whose outputs may take four times the bytes of a body."""
        return max(min(self.max_batch_size, 4 * self.max_body // bytes_per_row), 1)
