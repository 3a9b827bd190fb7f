"""Several machines that train one run: this process's place among them, by `TF_CONFIG`, and agreement between them."""

import contextlib
import json
import os
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from sagan_tf.errors import UserError, summarize

# Errors of a collective operation whose other worker has ended.
_LOST_WORKER_ERRORS = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
)  # fmt: skip


@dataclass(frozen=True)
class Worker:
    """This process among the workers of a run.

    Args:
        index: int >= 0. Worker 0 is the chief, which writes the run folder.
        count: int, number of workers.
        address: str, `host:port`.
    """

    index: int = 0
    count: int = 1
    address: str = "localhost"

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
        UserError: The JSON is malformed or has roles that synchronous training does not use.
    """
    text = os.environ.get("TF_CONFIG", "") if text is None else text
    if not text.strip():
        return Worker()
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        addresses = {role: list(hosts) for role, hosts in cluster.items()}
        role, index = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError):
        raise UserError("TF_CONFIG: must be JSON with `cluster` and `task`; see docs/scaling.md.") from None
    unknown = sorted(set(addresses) - {"chief", "master", "worker"})
    if unknown:
        raise UserError(
            f"TF_CONFIG: the cluster has `{unknown[0]}`; training is synchronous and uses only chief and worker."
        )
    # TensorFlow numbers the workers in this order.
    order = [(name, i) for name in ("chief", "master", "worker") for i in range(len(addresses.get(name, ())))]
    if len(order) < 2:
        return Worker()
    if (role, index) not in order:
        raise UserError(f"TF_CONFIG: the task is {role} {index}, which the cluster does not have.")
    return Worker(order.index((role, index)), len(order), str(addresses[role][index]))


def make_all_reduce(strategy):
    """Makes a function that sums one float per replica over all replicas; all workers must call it equally often."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.float64)])
    def total(value):
        return strategy.reduce("SUM", strategy.run(lambda: tf.identity(value)), axis=None)

    # TensorFlow caches every Python float that it converts, and no NumPy scalar.
    return lambda value: float(total(np.float64(value)))


def check_same_step(strategy, worker, step):
    """Raises UserError if the workers resume from different steps."""
    if worker.count == 1:
        return
    replicas, all_reduce = strategy.num_replicas_in_sync, make_all_reduce(strategy)
    mean, mean_square = all_reduce(step) / replicas, all_reduce(step**2) / replicas
    if abs(mean_square - mean**2) > 0.5 / replicas:
        raise UserError(
            f"{worker} would resume from step {step}, and the others from another one. The run folder must be on a "
            "disk that all workers share."
        )


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
