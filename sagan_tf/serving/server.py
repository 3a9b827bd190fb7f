"""Both protocols on their ports: start, stop without losing a request, and the loop of the command."""

import asyncio
import contextlib
import gc
import signal
import socket
import sys

from aiohttp import web

from sagan_tf.errors import UserError
from sagan_tf.serving.rest import make_app
from sagan_tf.serving.rpc import make_server
from sagan_tf.serving.service import Service


class Server:
    """A service on two ports, to be used inside an event loop.

    Args:
        folder: See `folders.find_models`.
        limits: Limits.
        host: Address to listen on.
        rest_port: int; 0 for a free one.
        grpc_port: int; 0 for a free one.
        say: Function of a str, for what a person should read.

    Attributes:
        service: Service.
        rest_address: "host:port" once started.
        grpc_address: "host:port" once started.
    """

    def __init__(self, folder, limits=None, host="127.0.0.1", rest_port=0, grpc_port=0, say=print):
        self.service = Service(folder, limits, say)
        self._host, self._rest_port, self._grpc_port = host, rest_port, grpc_port
        self.rest_address = self.grpc_address = None

    async def start(self):
        """Listens, then loads; until a version is loaded, requests are answered with 503.

        Raises:
            UserError: A port is taken.
        """
        for port in filter(None, (self._rest_port, self._grpc_port)):
            _check_port(self._host, port)
        drain = self.service.limits.drain
        self._runner = web.AppRunner(make_app(self.service), access_log=None, shutdown_timeout=drain)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._rest_port).start()
        self._rpc = make_server(self.service)
        port = self._rpc.add_insecure_port(_address(self._host, self._grpc_port))
        await self._rpc.start()
        self.rest_address = _address(self._host, self._runner.addresses[0][1])
        self.grpc_address = _address(self._host, port)
        await self.service.start()

    async def stop(self):
        """Takes no more requests, answers those that are there, and gives everything back."""
        self.service.stopping = True
        await asyncio.gather(self._rpc.stop(self.service.limits.drain), self._runner.cleanup())
        await self.service.close()


def new_event_loop():
    """Makes the event loop that the command runs in.

    Returns:
        asyncio.AbstractEventLoop: uvloop's, with which a request costs less, where it is installed; it has no Windows.
    """
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def serve(server, say=print):
    """Serves until the process is asked to end.

    Args:
        server: Server.
        say: Function of a str.

    Raises:
        UserError: A port is taken, or nothing can be loaded.
    """
    asked_to_end, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows has neither; Ctrl-C ends it there
            loop.add_signal_handler(name, asked_to_end.set)
    await server.start()
    try:
        if not server.service.models:
            raise UserError(f"no version in {server.service.folder} can be loaded, see above.")
        _settle()
        say(f"REST on http://{server.rest_address}/v1/models, gRPC on {server.grpc_address}")
        await asked_to_end.wait()
        say("stopping: answering what is there")
    finally:
        await server.stop()


def _settle():
    # Of the process, therefore the command's alone. Requests leave few cycles behind, but so many objects that Python
    # would look through TensorFlow's, hundreds of thousands, again and again: a twelfth (REST) to a quarter (gRPC)
    # of what a request costs.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    # A batch that is ready waits so long for the event loop to let go of Python, and its cores idle: 5 ms by default,
    # 8 to 10 % of the throughput of small pictures.
    sys.setswitchinterval(0.0005)


def _address(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_port(host, port):
    # Before gRPC tries, which would write lines of its own.
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"cannot listen on {_address(host, port)}: {why}. Choose another port or host.") from None
