"""Keras' `fit` and `evaluate` under every strategy of `distribution.py`."""

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.data.readers import without_autotuning
from sagan_tf.layers.keras_compat import BuiltModel
from sagan_tf.training.memory import give_back_freed


class DistributedModel(BuiltModel):
    """A Keras model whose `fit` and `evaluate` work under every data-parallel strategy.

    The TensorFlow trainer of Keras 3.15 fails under MirroredStrategy with `steps_per_execution` above 1, and always on
    several workers. Both faults are in the functions that `fit` and `evaluate` call for each batch, which this class
    replaces.

    Attributes:
        stop_wanted: bool. Whether this worker wants to stop; set by callbacks.
        stop_agreed: On several workers a scalar tensor, how many replicas wanted to stop at the latest step: the same
            number on all workers, so that all stop after the same step. None on one worker.
        traced_function: The `tf.function` behind `train_function`, once there is one.
    """

    stop_wanted = False
    stop_agreed = None
    traced_function = None

    def prepare_batch(self, data):
        """Prepares the data of a training step on its device; `check_batch` gets what it returns."""
        return data

    def check_batch(self, data):
        """Checks the data of a step, outside of what XLA compiles, and returns what the step gets."""
        return data

    def make_train_function(self, force=False):
        """Makes the function that runs `steps_per_execution` steps on an iterator over distributed batches.

        Keras calls it. The function returns the means of the metrics over replicas. Where the data set ends, it runs
        fewer steps, and raises StopIteration if there is none.

        XLA compiles the step on one replica; on several, `train_step` compiles what it can.
        """
        if self.train_function is not None and not force:
            return self.train_function
        strategy, steps = self.distribute_strategy, self.steps_per_execution
        # The step uses TensorFlow's control flow explicitly; AutoGraph would double the time of tracing.
        step = tf.autograph.experimental.do_not_convert(self.train_step)
        several_workers = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        if self.jit_compile and strategy.num_replicas_in_sync == 1:
            step = tf.function(step, jit_compile=True, reduce_retracing=True)

        def wants_to_stop():
            return tf.numpy_function(lambda: np.float32(self.stop_wanted), [], tf.float32)

        def run_step(batch):
            logs = strategy.run(lambda data: step(self.check_batch(self.prepare_batch(data))), args=(batch,))
            return {name: strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}

        def one_step(iterator):
            logs = run_step(next(iterator))
            return logs, strategy.reduce("SUM", strategy.run(wants_to_stop), axis=None) if several_workers else None

        def many_steps(iterator):
            def body(i, _, logs):
                batch = iterator.get_next_as_optional()
                logs = tf.cond(batch.has_value(), lambda: run_step(batch.get_value()), lambda: logs)
                return i + 1, batch.has_value(), logs

            logs, stop = one_step(iterator)
            # As in Keras, the last call of an epoch makes fewer steps.
            _, _, logs = tf.while_loop(lambda i, more, _: more & (i < steps), body, (1, True, logs))
            return logs, stop

        function = one_step if steps == 1 else many_steps
        self.traced_function = function if self.run_eagerly else tf.function(function, reduce_retracing=True)

        is_traced = False

        def train_function(iterator):
            nonlocal is_traced
            try:
                logs, self.stop_agreed = self.traced_function(_distributed(iterator, strategy))
            except tf.errors.OutOfRangeError:
                raise StopIteration from None  # A data set of unknown length is at its end.
            if not is_traced:
                give_back_freed()
                is_traced = True
            return logs

        self.train_function = train_function
        return self.train_function

    def make_test_function(self, force=False):
        """Makes the function that runs `test_step` on the next batches of an iterator, as `make_train_function`.

        Its metrics are over all replicas, also where the last batch is smaller on some.
        """
        if self.test_function is not None and not force:
            return self.test_function
        strategy = self.distribute_strategy
        step = tf.autograph.experimental.do_not_convert(self.test_step)

        def one_step(iterator):
            logs = strategy.run(lambda data: step(self.check_batch(data)), args=(next(iterator),))
            return {metric.name: metric.result() for metric in self.metrics if metric.name in logs}

        traced = one_step if self.run_eagerly else tf.function(one_step, reduce_retracing=True)

        def test_function(iterator):
            iterator, logs = _distributed(iterator, strategy), None
            for _ in range(self.steps_per_execution):
                try:
                    logs = traced(iterator)
                except (StopIteration, tf.errors.OutOfRangeError):
                    break
            if logs is None:
                raise StopIteration
            return logs

        self.test_function = test_function
        return self.test_function


def _distributed(iterator, strategy):
    """An iterator over distributed batches; `train_on_batch` gives a generator of one batch that is not."""
    if isinstance(iterator, (tf.data.Iterator, tf.distribute.DistributedIterator)):
        return iterator
    batch = keras.utils.pack_x_y_sample_weight(*next(iterator))
    dataset = tf.data.Dataset.from_tensor_slices(batch)
    dataset = dataset.batch(max(int(dataset.cardinality()), 1), drop_remainder=True)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return iter(strategy.experimental_distribute_dataset(without_autotuning(dataset, options)))
