"""TensorFlow strategies for one device or several, and Keras' `fit` under them."""

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.data.readers import without_autotuning
from sagan_tf.errors import UserError
from sagan_tf.layers.keras_compat import BuiltModel
from sagan_tf.training.memory import give_back_freed
from sagan_tf.training.signals import end_on_signal, kept_signal_handlers
from sagan_tf.training.workers import read_worker, wait_until_present


def make_strategy(distribution="auto", replicas=None, wait_minutes=15):
    """Makes the strategy to build and train under; call it before any other TensorFlow operation.

    Args:
        distribution: `single`: one device. `mirrored`: synchronous replicas on the devices of this machine; the
            default strategy for one. `auto`: all devices of all workers where `TF_CONFIG` names several, else mirrored
            where there are several GPUs. `tpu`: all cores of the TPU of this machine (never run: docs/scaling.md).
        replicas: int >= 1 or None. Replicas when mirrored; without a GPU, as many logical CPU devices are made. None:
            all GPUs.
        wait_minutes: float. How long to wait for the other workers of `TF_CONFIG`.

    Returns:
        tf.distribute.Strategy.

    Raises:
        UserError: The devices or the other workers are not there, TensorFlow has already started, or `TF_CONFIG` is
            invalid.
    """
    worker = read_worker()
    if worker.count > 1:
        return _across_workers(distribution, replicas, worker, wait_minutes)
    return make_local_strategy(distribution, replicas)


def set_numerics(tf32, deterministic=False):
    """Sets for the whole process how its kernels compute; both matter on GPUs.

    Args:
        tf32: bool. Let products and convolutions of float32 round their factors to TF32.
        deterministic: bool. Use deterministic operations only; cannot be undone.
    """
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def xla_obstacle(strategy, has_global_statistics, lecam_weight=0.0, ada_target=0.0):
    """Why XLA cannot compile the training step under a strategy: what it does there; None if it can."""
    replicas = strategy.num_replicas_in_sync
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "a TPU compiles the step by itself"
    if replicas == 1 and isinstance(strategy, tf.distribute.MirroredStrategy):
        return "a mirrored strategy of one replica needs operations that XLA does not have; leave the strategy out"
    if replicas > 1 and has_global_statistics:
        return f"batch statistics are taken over all {replicas} replicas (batch_statistics global, not local)"
    if replicas > 1 and lecam_weight:
        return f"LeCam compares with means over all {replicas} replicas (lecam_weight {lecam_weight:g}, not 0)"
    if replicas > 1 and ada_target:
        return f"ADA counts signs over all {replicas} replicas (ada_target {ada_target:g}, not 0)"
    return None


def resolve_jit_compile(choice, obstacle=None):
    """Whether XLA compiles the training step.

    Args:
        choice: True, False, or `auto`: where there is a GPU and no obstacle.
        obstacle: str or None, of `xla_obstacle`.

    Raises:
        ValueError: It must and cannot, or the choice is unknown.
    """
    if choice not in (True, False, "auto"):
        raise ValueError(f"`jit_compile` must be True, False or 'auto'. Received: jit_compile={choice!r}.")
    if choice == "auto":
        return obstacle is None and bool(tf.config.list_physical_devices("GPU"))
    if choice and obstacle:
        raise ValueError(f"XLA cannot compile the training step here: {obstacle}.")
    return bool(choice)


def mean_over_replicas(x):
    """Mean of a tensor over the replicas, in their context."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce("MEAN", x)


def make_local_strategy(distribution="auto", replicas=None):
    """As `make_strategy`, for the devices of this machine alone, whatever `TF_CONFIG` says.

    Raises UserError where the devices are not there, or TensorFlow has already started.
    """
    if distribution == "tpu":
        return _across_tpu_cores()
    gpus = tf.config.list_physical_devices("GPU")
    wanted = replicas or len(gpus) or 1
    if distribution == "single" or wanted == 1:  # XLA cannot compile the step of a mirrored strategy of one
        return tf.distribute.get_strategy()
    if gpus and wanted > len(gpus):
        raise UserError(f"hardware.replicas: must be at most {len(gpus)}, the GPUs of this machine. Got {wanted}.")
    return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(wanted)] if gpus else _logical_cpus(wanted))


def _across_workers(distribution, replicas, worker, wait_minutes):
    if distribution != "auto" or replicas is not None:
        raise UserError(
            f"hardware.distribution: must be `auto`, with hardware.replicas null, on the {worker.count} workers of "
            "TF_CONFIG. Unset TF_CONFIG to train on this machine alone."
        )
    wait_until_present(worker, wait_minutes)
    try:
        with end_on_signal(worker), kept_signal_handlers():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise UserError("Several workers must connect before TensorFlow starts. Run the command in a new process.")


def _across_tpu_cores():
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
    try:
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (tf.errors.OpError, RuntimeError):
        raise UserError(
            "hardware.distribution: TensorFlow finds no TPU on this machine. `tpu` needs one, and TensorFlow's build "
            "for TPUs (tensorflow-tpu). See docs/scaling.md."
        ) from None
    return tf.distribute.TPUStrategy(resolver)


def _logical_cpus(replicas):
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    except RuntimeError:
        if len(tf.config.list_logical_devices("CPU")) < replicas:
            raise UserError(
                f"hardware.replicas: {replicas} CPU replicas must be made before TensorFlow starts. "
                "Run the command in a new process."
            ) from None
    return [f"CPU:{i}" for i in range(replicas)]


def prefetch_to_device(dataset, strategy):
    """Has the next batch copied to the GPU during a step; strategies of several devices do so by themselves.

    Args:
        dataset: tf.data.Dataset.
        strategy: Strategy of the model that it is for, of `make_strategy`.

    Returns:
        tf.data.Dataset of the same elements in the same order; `dataset` where there is nothing to do.
    """
    gpus = tf.config.list_logical_devices("GPU")
    with strategy.scope():
        if not gpus or tf.distribute.has_strategy():
            return dataset
    copies = dataset.apply(tf.data.experimental.copy_to_device(gpus[0].name))
    return without_autotuning(copies.prefetch(1))


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
