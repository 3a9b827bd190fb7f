"""Runs a function of batches on all replicas of a process and keeps the order of the rows."""

import numpy as np
import tensorflow as tf


def on_all_replicas(function, strategy, batch_size):
    """Spreads a graph function of B rows over the replicas of a strategy; None is the default device.

    Every call runs full batches, padded with the last row, so that a row's result does not depend on its batch.

    Returns a function of arrays with n rows each, 1 <= n <= B times the replicas, that gives NumPy arrays of n rows.
    `function` may give a tensor, or a tuple of tensors and None.
    """
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync

    @tf.function(autograph=False)
    def step(*values):
        return function(*values) if strategy is None else strategy.run(function, args=values)

    # tf.function would warn of retracing at the fifth generator of a process: its code is that of the others.
    traced = {}

    def run(*arrays):
        count = len(arrays[0])
        missing = replicas * batch_size - count
        if count < 1 or missing < 0:
            raise ValueError(f"There must be 1 to {replicas * batch_size} rows. Received: {count}.")
        padded = [np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) for array in arrays]
        inputs = [_scatter(array, strategy, batch_size) for array in padded]
        kind = tuple((array.dtype, array.shape) for array in padded)
        if kind not in traced:
            traced[kind] = step.get_concrete_function(*inputs)
        return _gather(traced[kind](*inputs), strategy, count)

    return run


def _scatter(array, strategy, batch_size):
    if strategy is None:
        return tf.constant(array)

    def slice_of(context):
        start = context.replica_id_in_sync_group * batch_size
        return tf.constant(array[start : start + batch_size])

    return strategy.experimental_distribute_values_from_function(slice_of)


def _gather(outputs, strategy, count):
    if isinstance(outputs, tuple):
        return tuple(_gather(output, strategy, count) for output in outputs)
    if outputs is None:
        return None
    parts = [outputs] if strategy is None else strategy.experimental_local_results(outputs)
    return np.concatenate([part.numpy() for part in parts])[:count]
