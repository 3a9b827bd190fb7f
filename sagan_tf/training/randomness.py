"""Random numbers of a training step as a pure function of seed, step and purpose.

An exact resume needs no saved state, and a run draws the same numbers on any number of replicas: each draws for the
global batch and takes its own rows (`keras.random` gives every replica the same numbers).
"""

import tensorflow as tf

from sagan_tf.files.hashing import hash_seed


class StepRandomness:
    """The random numbers of one step on one replica.

    Args:
        seed: int, of the run.
        step: Scalar integer tensor.
    """

    def __init__(self, seed, step):
        self.seed = seed
        self.step = tf.cast(step, tf.int64)

    def normal(self, purpose, rows, columns):
        """Draws (rows, columns) float32 from N(0, 1); `purpose` names the stream of random numbers."""
        draw = tf.random.stateless_normal((self._all_rows(rows), columns), self._seeds(purpose), alg="philox")
        return self._own_rows(draw, rows)

    def uniform(self, purpose, rows, columns):
        """Draws (rows, columns) float32 from U[0, 1); `purpose` names the stream of random numbers."""
        draw = tf.random.stateless_uniform((self._all_rows(rows), columns), self._seeds(purpose), alg="philox")
        return self._own_rows(draw, rows)

    def labels(self, purpose, rows, distribution):
        """Draws (rows,) int32 labels in 0..K-1; `distribution` lists the probabilities of the K classes."""
        uniform = self.uniform(purpose, rows, 1)[:, 0]
        upper = tf.cumsum(tf.constant(distribution, tf.float64))[:-1]
        label = tf.searchsorted(upper, tf.cast(uniform, tf.float64), side="right")
        return tf.cast(label, tf.int32)

    def _seeds(self, purpose):
        return tf.stack([tf.constant(hash_seed(self.seed, purpose), tf.int64), self.step])

    @staticmethod
    def _all_rows(rows):
        context = tf.distribute.get_replica_context()
        return rows * (context.num_replicas_in_sync if context else 1)

    @staticmethod
    def _own_rows(draw, rows):
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return draw
        return tf.slice(draw, [rows * context.replica_id_in_sync_group, 0], [rows, draw.shape[1]])
