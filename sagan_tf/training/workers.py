"""Several machines that train one run: this process's place among them, by `TF_CONFIG`, and agreement between them."""

import contextlib
import json
import os
import socket
import sys
import time
import zlib
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from sagan_tf import __version__
from sagan_tf.errors import UserError, summarize

# Errors of a collective operation whose other worker has ended.
_LOST_WORKER_ERRORS = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
)  # fmt: skip

_POLL_SECONDS, _REPORT_SECONDS = 0.5, 10


@dataclass(frozen=True)
class Worker:
    """This process among the workers of a run.

    Args:
        index: int >= 0. Worker 0 is the chief, which writes the run folder.
        count: int, number of workers.
        address: str, `host:port`.
        others: dict, index of every other worker -> its address.
    """

    index: int = 0
    count: int = 1
    address: str = "localhost"
    others: dict = field(default_factory=dict, compare=False)

    @property
    def is_chief(self):
        return self.index == 0

    def __str__(self):
        return f"worker {self.index} of {self.count} ({self.address})"


def read_worker(text=None):
    """Reads `TF_CONFIG`.

    Args:
        text: str, `TF_CONFIG` as cloud trainers and Kubernetes operators set it: JSON with `cluster`, the addresses of
            `chief` and `worker`, and `task`, the `type` and `index` of this process. None: the environment's.

    Returns:
        Worker; the only one if there is no cluster.

    Raises:
        UserError: The JSON is malformed, names an address twice, or has roles that synchronous training does not use.
    """
    text = os.environ.get("TF_CONFIG", "") if text is None else text
    if not text.strip():
        return Worker()
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster") or {}, config.get("task") or {}
        addresses = {role: _check_addresses(hosts) for role, hosts in cluster.items()}
        role, index = task.get("type", "worker"), task.get("index", 0)
        index = int(index) if isinstance(index, str) and index.isdecimal() else index
        if type(role) is not str or type(index) is not int:
            raise ValueError
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(
            'TF_CONFIG: must be JSON such as {"cluster": {"worker": ["host:2222", "other:2222"]}, "task": {"type": '
            '"worker", "index": 0}}; see docs/scaling.md.'
        ) from None
    unknown = sorted(set(addresses) - {"chief", "master", "worker"})
    if unknown:
        raise UserError(
            f"TF_CONFIG: the cluster has `{unknown[0]}`; training is synchronous and uses only chief and worker."
        )
    everyone = [address for hosts in addresses.values() for address in hosts]
    repeated = next((address for address in everyone if everyone.count(address) > 1), None)
    if repeated is not None:
        raise UserError(f"TF_CONFIG: the address {repeated} is given twice; every worker needs its own.")
    if sum(len(addresses.get(name, ())) for name in ("chief", "master")) > 1:
        raise UserError("TF_CONFIG: the cluster has more than one chief; name one, or none.")
    # TensorFlow numbers the workers in this order.
    order = [(name, i) for name in ("chief", "master", "worker") for i in range(len(addresses.get(name, ())))]
    if len(order) < 2:
        return Worker()
    if (role, index) not in order:
        raise UserError(f"TF_CONFIG: the task is {role} {index}, which the cluster does not have.")
    number = order.index((role, index))
    others = {i: addresses[name][j] for i, (name, j) in enumerate(order) if i != number}
    return Worker(number, len(order), addresses[role][index], others)


def _check_addresses(hosts):
    """Raises ValueError unless it is a list of `host:port`."""
    for address in hosts:
        host, _, port = address.rpartition(":")
        if type(hosts) is not list or not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise ValueError
    return hosts


def wait_until_present(worker, minutes):
    """Returns when the addresses of all other workers accept connections; says every 10 s who is missing.

    TensorFlow itself waits in silence, and no signal ends it.

    Raises:
        UserError: A worker is missing after `minutes`, or the port of this one is in use.
    """
    missing, started = dict(worker.others), time.monotonic()
    next_report = started + _REPORT_SECONDS
    with _open_port(worker):  # so that the others see this worker
        while missing:
            missing = {i: address for i, address in missing.items() if not _accepts_connections(address)}
            now, names = time.monotonic(), ", ".join(f"worker {i} ({address})" for i, address in missing.items())
            if missing and now > started + 60 * minutes:
                raise UserError(
                    f"{worker}: after {minutes:g} minutes of waiting, these are missing: {names}. Start all workers, "
                    "or set hardware.wait_minutes to a larger value."
                )
            if missing and now > next_report:
                print(f"{worker}: waiting for {names}, since {now - started:.0f} s", file=sys.stderr, flush=True)
                next_report = now + _REPORT_SECONDS
            time.sleep(_POLL_SECONDS if missing else 0)


def _open_port(worker):
    port = int(worker.address.rpartition(":")[2])
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, backlog=2 * worker.count, dualstack_ipv6=dual)
    except OSError as error:
        raise UserError(
            f"{worker}: its port cannot be opened: {error.strerror}. End the program that uses it, such as an earlier "
            "start of this worker, or name another port in TF_CONFIG."
        ) from None


def _accepts_connections(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_POLL_SECONDS).close()
    except (OSError, UnicodeError):  # the second: a name that no host can have
        return False
    return True


def make_all_reduce(strategy):
    """Makes a function that sums one float per replica over all replicas; all workers must call it equally often."""
    total = _make_sum(strategy, [])
    # TensorFlow caches every Python float that it converts, and no NumPy scalar.
    return lambda value: float(total(np.float64(value)))


def _make_sum(strategy, shape):
    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float64)], autograph=False)
    def total(value):
        return strategy.reduce("SUM", strategy.run(lambda: tf.identity(value)), axis=None)

    return total


def gather(strategy, worker, values):
    """Brings the numbers of all workers together: list of n ints below 2**32 -> (workers, n) int64 array."""
    table = np.zeros((worker.count, len(values)))
    table[worker.index] = values
    replicas = strategy.num_replicas_in_sync // worker.count
    return np.int64(_make_sum(strategy, table.shape)(table).numpy()) // replicas


def check_same(strategy, worker, values, advice):
    """Raises UserError on all workers if a value is not the same on all.

    Args:
        strategy: tf.distribute.Strategy of all workers.
        worker: `Worker`.
        values: dict of JSON values by name.
        advice: str, what to do.
    """
    if worker.count == 1:
        return
    # The names first: workers with other ones would wait for each other for ever.
    for names, parts in (("version of sagan_tf",), [[__version__, *values]]), (values, values.values()):
        own = [zlib.crc32(json.dumps(part, sort_keys=True).encode()) for part in parts]
        table = gather(strategy, worker, own)
        different = [name for name, column in zip(names, table.T) if len(set(column)) > 1]
        if different:
            raise UserError(f"{worker}: the workers do not have the same {', '.join(different)}. {advice}")


def check_same_step(strategy, worker, step):
    """Raises UserError if the workers resume from different steps; `step` is None without a checkpoint."""
    found = "finds none" if step is None else f"would resume from step {step}"
    advice = f"This one {found}. The run folder must be on a disk that all workers share."
    check_same(strategy, worker, {"last checkpoint": step}, advice)


def wait_for_all(strategy, worker):
    """Returns when all workers have called it."""
    if worker.count > 1:
        make_all_reduce(strategy)(1)


@contextlib.contextmanager
def translate_lost_worker_errors(worker):
    """Raises UserError, in place of TensorFlow's errors, if another worker has ended."""
    try:
        yield
    except _LOST_WORKER_ERRORS as error:
        if worker.count == 1:
            raise
        reason = summarize(error)
        raise UserError(
            f"{worker}: another worker has stopped or cannot be reached ({reason}). Start all workers again with the "
            "same command: training continues from the last checkpoint."
        ) from None


@contextlib.contextmanager
def silence_unless(is_chief):
    """Discards printed output on workers other than the chief."""
    with contextlib.ExitStack() as stack:
        if not is_chief:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        yield
