"""TensorFlow strategies for one device or several, and whether XLA compiles a step under them."""

import tensorflow as tf

from sagan_tf.data.readers import without_autotuning
from sagan_tf.errors import UserError
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


def check_clipping(strategy, *optimizers):
    """Raises ValueError for Keras optimizers that clip gradients on several replicas, each of which clips its share."""
    for optimizer in optimizers if strategy.num_replicas_in_sync > 1 else ():
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a loss scaling one
        for name in ("clipnorm", "global_clipnorm", "clipvalue"):
            if getattr(optimizer, name) is not None:
                raise ValueError(
                    "An optimizer cannot clip gradients on several replicas: each would clip its own share. "
                    f"Received: {name}={getattr(optimizer, name)}."
                )


def mean_over_replicas(x):
    """Mean of a tensor over the replicas, in their context."""
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce("MEAN", x)


def of_all_replicas(x):
    """(R,), the scalar that each of R replicas has, in their context."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas == 1:
        return tf.reshape(x, (1,))
    context = tf.distribute.get_replica_context()
    return context.all_reduce("SUM", x * tf.one_hot(context.replica_id_in_sync_group, replicas, dtype=x.dtype))


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
