"""The server: both protocols on their ports, start, graceful stop, and the loop of the command."""

import asyncio
import contextlib
import gc
import math
import signal
import socket
import sys

from sagan_tf.errors import UserError
from sagan_tf.serving.grpc_server import make_server
from sagan_tf.serving.rest_server import RestServer
from sagan_tf.serving.service import Service


class Server:
    """A service on two ports; use it inside an event loop.

    Args:
        folder: Path, as for `folders.find_models`.
        limits: `Limits`.
        host: Address to listen on.
        rest_port: int; 0: a free port.
        grpc_port: int; 0: a free port.
        log: Function of a str, called with lines for the user.

    Attributes:
        service: `Service`.
        rest_address: "host:port" after `start`.
        grpc_address: "host:port" after `start`.
    """

    def __init__(self, folder, limits=None, host="127.0.0.1", rest_port=0, grpc_port=0, log=print):
        self.service = Service(folder, limits, log)
        self._host, self._rest_port, self._grpc_port = host, rest_port, grpc_port
        self._rest, self._grpc = RestServer(self.service), None
        self.rest_address = self.grpc_address = None

    async def start(self):
        """Listens, then loads the models; UserError if a port is in use. Without a model, requests get status 503."""
        ports = [port for port in (self._rest_port, self._grpc_port) if port]
        if len(set(ports)) < len(ports):
            raise _refusal(self._host, ports[0], "REST and gRPC need a port each")
        for port in ports:
            _check_port(self._host, port)
        try:
            rest_port = await self._rest.start(self._host, self._rest_port)
        except (OSError, UnicodeError) as error:  # of a second address of the host, a foreign host, or another process
            raise _refusal(self._host, self._rest_port, error) from None
        self._grpc = make_server(self.service)
        try:
            port = self._grpc.add_insecure_port(_address(self._host, self._grpc_port))
        except RuntimeError as error:
            raise _refusal(self._host, self._grpc_port, error) from None
        await self._grpc.start()
        self.rest_address = _address(self._host, rest_port)
        self.grpc_address = _address(self._host, port)
        await self.service.start()

    async def stop(self):
        """Refuses new requests, answers the waiting ones, and frees everything."""
        self.service.stop()
        stopping = [self._rest.stop()]
        if self._grpc:
            stopping.append(self._grpc.stop(self.service.limits.drain))
        await asyncio.gather(*stopping)
        await self.service.close()


def new_event_loop():
    """Returns uvloop's event loop, which is faster, or asyncio's if uvloop is not installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def serve(server, log=print):
    """Serves until SIGTERM or SIGINT; UserError if a port is in use or no model can be loaded."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # on Windows, where Ctrl-C stops the process
            loop.add_signal_handler(name, stop.set)
    starting, stopping = loop.create_task(server.start()), loop.create_task(stop.wait())
    await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            starting.result()
            if not server.service.models:
                raise UserError(f"no version in {server.service.folder} can be loaded, see above.")
            _tune_interpreter()
            log(f"REST on http://{server.rest_address}/v1/models, gRPC on {server.grpc_address}")
        await stopping
        log("stopping: answering the waiting requests")
        _limit_the_end(server.service.limits.drain)
    finally:
        starting.cancel()
        await server.stop()


def _limit_the_end(seconds):
    """Lets the system end the process soon after the drain, whatever hangs in it then."""
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(seconds) + 2)


def _tune_interpreter():
    """Changes settings of the process, so only the command calls it."""
    # Requests leave few reference cycles, but so many objects that Python would search TensorFlow's, hundreds of
    # thousands, again and again: a twelfth (REST) to a quarter (gRPC) of the time of a request.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    # A ready batch waits this long for the event loop to release the interpreter while its cores idle: with the
    # default of 5 ms, 8 to 10 % of the throughput of small images.
    sys.setswitchinterval(0.0005)


def _address(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_port(host, port):
    # Before gRPC tries, which prints lines of its own.
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except (OSError, UnicodeError) as error:  # the latter of a name that no host can have
        raise _refusal(host, port, error) from None


def _refusal(host, port, error):
    reason = getattr(error, "strerror", None) or error
    return UserError(f"cannot listen on {_address(host, port)}: {reason}. Choose another port or host.")
