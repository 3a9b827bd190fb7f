"""Random numbers of a training step as a pure function of seed, step and purpose.

An exact resume needs no saved state, and a run draws the same numbers on any number of replicas: each draws for the
global batch and takes its own rows (`keras.random` gives every replica the same numbers).
"""

import copy
import math

import numpy as np
import tensorflow as tf

from sagan_tf.files.hashing import hash_seed


class StepRandomness:
    """The random numbers of one step on one replica.

    Args:
        seed: int, of the run.
        step: Scalar integer tensor.
        compiled: bool, whether XLA compiles the step. The numbers are the same, normal ones to float rounding.
        replica_rows: (R,) int32, rows of the batch on each replica. None: equally many.
    """

    def __init__(self, seed, step, compiled=False, replica_rows=None):
        self.seed = seed
        self.step = tf.cast(step, tf.int64)
        self._uniform, self._normal = (compiled_uniform, compiled_normal) if compiled else (_uniform, _normal)
        self._index, self._count = 0, 1
        self._replica_rows = replica_rows

    def of_batch(self, index, count):
        """The numbers of batch `index`, an int or scalar tensor below `count`; it stands for `{}` in a purpose."""
        one = copy.copy(self)
        one._index, one._count = index, count
        return one

    def normal(self, purpose, rows, columns):
        """Draws (rows, columns) float32 from N(0, 1); `purpose` names the stream of random numbers."""
        return self._own_rows(self._normal(self._all_rows(rows), columns, self._seeds(purpose)), rows)

    def uniform(self, purpose, rows, columns):
        """Draws (rows, columns) float32 from U[0, 1); `purpose` names the stream of random numbers."""
        return self._own_rows(self._uniform(self._all_rows(rows), columns, self._seeds(purpose)), rows)

    def labels(self, purpose, rows, distribution):
        """Draws (rows,) int32 labels in 0..K-1; `distribution` lists the probabilities of the K classes."""
        uniform = self.uniform(purpose, rows, 1)[:, 0]
        label = tf.searchsorted(np.cumsum(distribution)[:-1], tf.cast(uniform, tf.float64), side="right")
        return tf.cast(label, tf.int32)

    def _seeds(self, purpose):
        if isinstance(self._index, int):
            seed = tf.constant(hash_seed(self.seed, purpose.format(self._index)), tf.int64)
        else:
            seeds = [hash_seed(self.seed, purpose.format(i)) for i in range(self._count)]
            seed = tf.gather(tf.constant(seeds, tf.int64), self._index)
        return tf.stack([seed, self.step])

    def _all_rows(self, rows):
        if self._replica_rows is not None:
            return tf.reduce_sum(self._replica_rows)
        context = tf.distribute.get_replica_context()
        return rows * (context.num_replicas_in_sync if context else 1)

    def _own_rows(self, draw, rows):
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return draw
        replica = context.replica_id_in_sync_group
        first = rows * replica if self._replica_rows is None else tf.reduce_sum(self._replica_rows[:replica])
        return tf.slice(draw, [first, 0], [rows, draw.shape[1]])


def _uniform(rows, columns, seeds):
    # Philox too, but on a CPU or GPU TensorFlow makes its key in one operation.
    return tf.random.stateless_uniform((rows, columns), seeds, alg="auto_select")


def _normal(rows, columns, seeds):
    return tf.random.stateless_normal((rows, columns), seeds, alg="auto_select")


def compiled_uniform(rows, columns, seeds):
    """As `tf.random.stateless_uniform`, (rows, columns): XLA makes other floats of the same random bits."""
    return tf.reshape(_uniforms(rows * columns, seeds), (rows, columns))


def compiled_normal(rows, columns, seeds):
    """As `tf.random.stateless_normal`, (rows, columns): by pairs, Box and Muller 1958."""
    count = rows * columns
    radius, angle = tf.unstack(tf.reshape(_uniforms(count + count % 2, seeds), (-1, 2)), axis=1)
    radius = tf.sqrt(-2.0 * tf.math.log(tf.maximum(radius, 1e-7)))
    angle *= np.float32(2 * math.pi)
    pairs = tf.stack([tf.sin(angle) * radius, tf.cos(angle) * radius], axis=1)
    return tf.reshape(tf.reshape(pairs, (-1,))[:count], (rows, columns))


def _uniforms(count, seeds):
    """(count,) floats in [0, 1), of the lower 23 bits of random words."""
    words = tf.random.stateless_uniform((count,), seeds, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    return tf.cast(tf.bitwise.bitwise_and(words, tf.constant(2**23 - 1, tf.uint32)), tf.float32) * 2**-23
