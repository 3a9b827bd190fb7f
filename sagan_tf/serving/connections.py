"""HTTP connections: their number is limited, and requests from other web sites are refused."""

import asyncio
import functools
import ipaddress
import socket
from urllib.parse import urlsplit

from sagan_tf.serving.errors import RequestError

_CONTENT_TYPES = {"application/json", "application/octet-stream", "application/x-www-form-urlencoded"}


class ConnectionFactory:
    """Makes the protocol of each new connection; above the limit it closes the oldest one that has no request.

    Args:
        server: aiohttp.web.Server.
        max_connections: int; a further one is refused if all have requests.

    Attributes:
        busy: set of the protocols with a request.
    """

    def __init__(self, server, max_connections):
        self._server, self._max_connections, self.busy = server, max_connections, set()

    @property
    def connections(self):
        """list of the open connections, the oldest first."""
        return [one for one in self._server.connections if one.transport and not one.transport.is_closing()]

    def __call__(self):
        connections = self.connections
        if len(connections) >= self._max_connections:
            idle = next((one for one in connections if one not in self.busy), None)
            if idle is None:
                return _Refusal()
            idle.transport.abort()
        return self._server()


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport):
        transport.abort()


def check_origin(request, allowed_hosts):
    """Raises RequestError for a request that another web site may have made in the user's browser.

    A site can give its own name the server's address (DNS rebinding), so the Host must be an address or a known name.
    A browser names the site that makes it send a POST in `Origin`, and lets a site choose few content types.
    """
    try:
        request.host.encode("ascii")  # aiohttp leaves bytes that are not UTF-8 as surrogates
        name = _name_unless_address(request.host)
    except ValueError:
        raise RequestError("The Host header is malformed.") from None
    if name not in (None, "localhost") and name not in {socket.gethostname().lower(), *allowed_hosts}:
        raise RequestError(f"The host {name[:100]} is unknown; `--allowed_hosts {name[:100]}` accepts it.", 403)
    if request.method == "POST":
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            raise RequestError("Requests from other web sites are refused.", 403)
        if request.content_type not in _CONTENT_TYPES:
            raise RequestError("The Content-Type must be application/json.", 415)


@functools.lru_cache(maxsize=256)
def _name_unless_address(host):
    """The name in a Host header, None for an IP address; ValueError if it is malformed."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name
    return None
