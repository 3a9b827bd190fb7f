"""`python -m sagan_tf.serve DIR`: exported models over TensorFlow Serving's REST and gRPC API, for development."""

import argparse
import asyncio
import importlib
import os
import sys

from sagan_tf.errors import OneLineParser, UserError, one_line_errors
from sagan_tf.serving.folders import find_models
from sagan_tf.serving.limits import Limits

_NEEDED = ("aiohttp", "grpc", "orjson", "prometheus_client", "tensorflow_serving")


def main(argv=None, prog="python -m sagan_tf.serve"):
    """Serves until it is told to end.

    Args:
        argv: list of str, arguments. None: those of this process.
        prog: Command that the help names.

    Raises:
        SystemExit: With code 0 after `--help`, 2 on bad input.
    """
    with one_line_errors():
        options = _options(argv, prog)
        _check_folder(options.folder)
        _check_packages()
        # Only now: TensorFlow takes seconds.
        import tensorflow as tf

        from sagan_tf.serving.server import Server, new_event_loop, serve

        tf.get_logger().setLevel("ERROR")  # that the session is an old interface is of no use to the reader
        server = Server(options.folder, _limits(options), options.host, options.rest_port, options.port, _say)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(server, _say))


def _say(line):
    print(line, flush=True)


def _options(argv, prog):
    parser = OneLineParser(prog=prog, description=__doc__.partition(": ")[2], allow_abbrev=False)
    limits = Limits()
    parser.add_argument("folder", metavar="DIR", help="MODEL with MODEL/<number>/, a folder of such, or an export.")
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on. Default: this machine alone.")
    parser.add_argument(
        "--rest_port", "--rest_api_port", type=_port, default=8501, metavar="N",
        help="HTTP; 0: a free one. Default: 8501.",
    )  # fmt: skip
    parser.add_argument("--port", type=_port, default=8500, metavar="N", help="gRPC; 0: a free one. Default: 8500.")
    for name, type_, default, text in (
        ("max_batch_size", _whole, limits.max_batch_size, "Rows run together, and rows of a request, at most."),
        ("batch_timeout_ms", _not_negative, 1e3 * limits.batch_timeout, "Milliseconds a request waits for others."),
        ("parallel_batches", _whole, limits.parallel_batches, "Batches run at a time, where they are full."),
        ("max_enqueued_batches", _whole, limits.max_enqueued_batches, "Full batches that may wait."),
        ("max_body_mb", _positive, limits.max_body / 2**20, "MiB of a request at most."),
        ("poll_seconds", _positive, limits.poll_interval, "Between looks for new versions."),
        ("drain_seconds", _not_negative, limits.drain, "For requests to end when the server is stopped."),
    ):
        parser.add_argument(f"--{name}", type=type_, default=default, metavar="N", help=f"{text} Default: {default:g}.")
    return parser.parse_args(sys.argv[1:] if argv is None else argv)


def _limits(options):
    return Limits(
        max_batch_size=options.max_batch_size,
        batch_timeout=options.batch_timeout_ms / 1e3,
        max_enqueued_batches=options.max_enqueued_batches,
        max_body=int(options.max_body_mb * 2**20),
        poll_interval=options.poll_seconds,
        drain=options.drain_seconds,
        parallel_batches=options.parallel_batches,
    )


def _number(text, make, fits, words):
    try:
        value = make(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"must be {words}; got `{text}`")
    return value


def _port(text):
    return _number(text, int, lambda value: 0 <= value < 2**16, "a port, 0 to 65535")


def _whole(text):
    return _number(text, int, lambda value: value > 0, "a whole number from 1")


def _positive(text):
    return _number(text, float, lambda value: 0 < value < float("inf"), "a number above 0")


def _not_negative(text):
    return _number(text, float, lambda value: 0 <= value < float("inf"), "a number from 0")


def _check_folder(folder):
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder. `python -m sagan_tf.export RUN --out {folder}` writes one.")
    if not find_models(folder):
        raise UserError(
            f"{folder} holds no model: there is neither <number>/saved_model.pb nor NAME/<number>/saved_model.pb. "
            f"`python -m sagan_tf.export RUN --out DIR` writes one."
        )


def _check_packages():
    try:
        for name in _NEEDED:
            importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{error.name} is not installed. `pip install 'sagan-tf[serving]'` brings it.") from None


if __name__ == "__main__":
    main()
