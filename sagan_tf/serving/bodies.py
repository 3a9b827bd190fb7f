"""Bodies of HTTP requests: received within a time and a memory limit, and decompressed to a limited size."""

import asyncio
import contextlib
import zlib

from sagan_tf.serving.errors import RequestError

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}  # of zlib
_UNCOUNTED_BYTES = 1 << 16  # per body: a usual request is accepted while large ones fill the memory


class BodyReceiver:
    """Receives bodies whose large ones take at most `limits.max_bodies` together.

    Args:
        limits: `Limits`.
    """

    def __init__(self, limits):
        self._max_body, self._timeout, self._free = limits.max_body, limits.client_timeout, limits.max_bodies

    @contextlib.asynccontextmanager
    async def receive(self, request):
        """Yields (compressed body, content encoding) of an aiohttp request; it is counted until the block ends.

        Raises:
            RequestError: The encoding is unknown, the body is too large or too slow, or too many are in memory.
        """
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding != "identity" and encoding not in _WINDOW_BITS:
            raise RequestError("The Content-Encoding must be gzip, deflate or identity.", 415)
        if (request.content_length or 0) > self._max_body:
            raise self._too_large()
        body, counted = bytearray(), 0
        try:
            try:
                async with asyncio.timeout(self._timeout):
                    async for chunk in request.content.iter_any():
                        body += chunk
                        if len(body) > self._max_body:
                            raise self._too_large()
                        added = max(len(body) - _UNCOUNTED_BYTES, 0) - counted
                        if added > self._free:
                            raise RequestError("Too many large requests at a time; try again later.", 503)
                        self._free -= added
                        counted += added
            except TimeoutError:
                raise RequestError(f"The request did not arrive within {self._timeout:g} s.", 408) from None
            yield body, encoding
        finally:
            self._free += counted

    def _too_large(self):
        return RequestError(f"Maximum request body size {self._max_body} exceeded.", 413)


def decompress(body, encoding, max_bytes):
    """Decompresses a body; RequestError if it is damaged or gets larger than `max_bytes`."""
    if encoding == "identity":
        return body
    decompressor = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        content = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise RequestError(f"The body is not {encoding}: {error}") from None
    if len(content) > max_bytes:
        raise RequestError(f"Maximum request body size {max_bytes} exceeded.", 413)
    if not decompressor.eof or decompressor.unused_data:
        raise RequestError(f"The body is not one complete {encoding} stream.")
    return content
