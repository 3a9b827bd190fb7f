"""Serving exported models on this machine."""

import asyncio
import contextlib
import importlib
import os
import tempfile
from pathlib import Path

from sagan_tf.errors import UserError, install_hint
from sagan_tf.files.hub import is_hub_name
from sagan_tf.files.patterns import pattern_letter
from sagan_tf.serving.background_log import BackgroundLog
from sagan_tf.serving.folders import find_models
from sagan_tf.serving.limits import Limits
from sagan_tf.utils.startup import quiet_imports

_PACKAGES = ("aiohttp", "grpc", "orjson", "prometheus_client", "tensorflow_serving")


def serve(options, log):
    """Serves until stopped.

    Args:
        options: `ServeOptions`.
        log: Function of a line for the user.

    Raises:
        UserError: There is no model, a package is missing, or an address is taken.
    """
    with _served_folder(options) as folder:
        with quiet_imports():  # after the checks: TensorFlow takes seconds
            from sagan_tf.serving import server

        log = BackgroundLog(log)
        running = server.Server(folder, limits(options), options.host, options.rest_port, options.port, log)
        try:
            with asyncio.Runner(loop_factory=server.new_event_loop) as runner:
                runner.run(server.serve(running, log))
        finally:
            log.flush()


@contextlib.contextmanager
def _served_folder(options):
    """Yields the folder of the options, or a temporary export of the repository or the pretrained weights they name."""
    if (options.folder is None) == (options.pretrained is None):
        raise UserError(
            "command line: give the folder of an export, hf://owner/name or --pretrained NAME, and only one of them."
        )
    is_folder = options.pretrained is None and not is_hub_name(options.folder)
    if is_folder:
        _check_folder(options.folder)
    _check_packages()
    if is_folder:
        with quiet_imports():
            from sagan_tf.training.distribution import set_numerics

        set_numerics(tf32=False)  # an export does not say what its run had
        yield options.folder
        return
    with quiet_imports():
        from sagan_tf.commands.subjects import open_subject
        from sagan_tf.experiment.loading import load_model
        from sagan_tf.export import export_saved_model

    run = open_subject(options.folder, options.pretrained)
    with tempfile.TemporaryDirectory() as folder:
        export_saved_model(load_model(run), Path(folder) / run.name)
        yield folder


def limits(options):
    """Converts `ServeOptions` to `Limits`, in seconds and bytes."""
    return Limits(
        max_batch_size=options.max_batch_size,
        batch_timeout=options.batch_timeout_ms / 1e3,
        max_enqueued_batches=options.max_enqueued_batches,
        max_body=int(options.max_body_mb * 2**20),
        poll_interval=options.poll_seconds,
        drain=options.drain_seconds,
        parallel_batches=options.parallel_batches,
        allow_any_graph=options.allow_any_graph,
        max_connections=options.max_connections,
        client_timeout=options.client_timeout_seconds,
        allowed_hosts=tuple(name.lower() for name in (options.host, *options.allowed_hosts)),
    )


def _check_folder(folder):
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder. `sagan export RUN --out {folder}` writes one.")
    try:
        models = find_models(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}.") from None
    if not models:
        raise UserError(
            f"{folder} holds no model: there is neither <number>/saved_model.pb nor NAME/<number>/saved_model.pb. "
            f"`sagan export RUN --out DIR` writes one."
        )
    if letter := pattern_letter(os.path.abspath(folder)):
        raise UserError(f"{folder}: TensorFlow takes `{letter}` in the path for a pattern. Rename or move the folder.")


def _check_packages():
    try:
        for name in _PACKAGES:
            importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{error.name} is not installed. {install_hint('serving')}") from None
