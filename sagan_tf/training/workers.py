"""Several machines that train one run: who this process is among them, by `TF_CONFIG`, and what they must agree on."""

import contextlib
import json
import os
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from sagan_tf.errors import UserError

# What a collective operation ends with when another worker is gone.
LOST = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
)  # fmt: skip


@dataclass(frozen=True)
class Worker:
    """This process among the workers of a run.

    Args:
        index: int from 0, among all.
        count: int, workers in all.
        address: "host:port" of this one.
    """

    index: int = 0
    count: int = 1
    address: str = "localhost"

    @property
    def is_chief(self):
        """Whether it is the one that writes."""
        return self.index == 0

    def __str__(self):
        return f"worker {self.index} of {self.count} ({self.address})"


def read_worker(text=None):
    """Reads who this process is.

    Args:
        text: str, `TF_CONFIG` as cloud trainers and Kubernetes operators set it: JSON with `cluster`, the addresses of
            `chief` and `worker`, and `task`, the `type` and `index` of this one. None: the environment's.

    Returns:
        Worker; the only one where there is no cluster.

    Raises:
        UserError: It is no such JSON, or has roles that synchronous training does not know.
    """
    text = os.environ.get("TF_CONFIG", "") if text is None else text
    if not text.strip():
        return Worker()
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        addresses = {role: list(found) for role, found in cluster.items()}
        role, index = task.get("type", "worker"), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError):
        raise UserError("TF_CONFIG: must be JSON with `cluster` and `task`; see docs/scaling.md.") from None
    strange = sorted(set(addresses) - {"chief", "master", "worker"})
    if strange:
        raise UserError(
            f"TF_CONFIG: the cluster has `{strange[0]}`; training is synchronous and knows chief and worker alone."
        )
    # The order in which TensorFlow numbers them.
    order = [(name, i) for name in ("chief", "master", "worker") for i in range(len(addresses.get(name, ())))]
    if len(order) < 2:
        return Worker()
    if (role, index) not in order:
        raise UserError(f"TF_CONFIG: the task is {role} {index}, which the cluster does not have.")
    return Worker(order.index((role, index)), len(order), str(addresses[role][index]))


def make_agreement(strategy):
    """Makes what waits for all replicas and sums their numbers; all workers must call it equally often.

    Args:
        strategy: tf.distribute.Strategy.

    Returns:
        Function of a float, that of this worker, that gives the sum over all replicas, a float.
    """

    @tf.function(input_signature=[tf.TensorSpec([], tf.float64)])
    def total(value):
        return strategy.reduce("SUM", strategy.run(lambda: tf.identity(value)), axis=None)

    # TensorFlow keeps every Python float that it made a tensor of, and none of NumPy's.
    return lambda value: float(total(np.float64(value)))


def agree(strategy, value):
    """As `make_agreement(strategy)(value)`, for once."""
    return make_agreement(strategy)(value)


def check_same_step(strategy, worker, step):
    """Refuses workers that would go on from different checkpoints.

    Args:
        strategy: tf.distribute.Strategy.
        worker: Worker.
        step: int, that this worker goes on from.

    Raises:
        UserError: They differ.
    """
    if worker.count == 1:
        return
    replicas = strategy.num_replicas_in_sync
    mean, square = agree(strategy, step) / replicas, agree(strategy, step**2) / replicas
    if abs(square - mean**2) > 0.5 / replicas:
        raise UserError(
            f"{worker} would go on from step {step}, and the others would not. The run folder must lie on a disk that "
            "all workers share."
        )


def wait_for_all(strategy, worker):
    """Returns when all workers have come as far.

    Args:
        strategy: tf.distribute.Strategy.
        worker: Worker.
    """
    if worker.count > 1:
        agree(strategy, 1)


@contextlib.contextmanager
def loss_of_workers_named(worker):
    """Says in one line that another worker is gone, in place of TensorFlow's pages.

    Args:
        worker: Worker.

    Raises:
        UserError: A collective operation has failed.
    """
    try:
        yield
    except LOST as error:
        if worker.count == 1:
            raise
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{worker}: another worker has stopped or cannot be reached ({reason}). Start all workers again with the "
            "same command: training goes on from the last checkpoint."
        ) from None


@contextlib.contextmanager
def silence_unless(chief):
    """Sends what is printed nowhere on workers that are not the chief.

    Args:
        chief: bool.
    """
    with contextlib.ExitStack() as stack:
        if not chief:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        yield
