"""Trains the tiny SAGAN on REPLICAS logical CPU devices, writes its weights and losses to FILE; run in its own process.

0 REPLICAS: on the workers that `TF_CONFIG` names. Several also train on batch statistics of their own images, with the
options `plain` with XLA too, written to FILE.local_False.npz and FILE.local_True.npz; then they also update a weight by
FusedAdam, normalize a map, read batches that were copied ahead and train on parts of different sizes, written to
FILE.parts.npz.
"""

import functools
import sys
import threading

import keras
import numpy as np
import tensorflow as tf
from training.float16 import OVERFLOWING, make_images, make_small, scaling_state
from training.tiny import fit, make_data, make_gan, prefetch_to_last_cpu

from sagan_tf.data.readers import without_autotuning
from sagan_tf.layers import BatchNormalization
from sagan_tf.training.adam import FusedAdam
from sagan_tf.training.distribution import make_strategy
from sagan_tf.training.preparation import prepare_images


def make_local(**options):
    """The small SAGAN with batch statistics of each replica's own images."""
    return make_small("float32", rate=0.01, loss="hinge", synchronized=False, **options)


def train_on_local_statistics(strategy, jit_compile):
    """Weights of generator, discriminator and averaged generator after two steps: list of arrays."""
    with strategy.scope():
        gan = make_local(jit_compile=jit_compile, steps_per_execution=1 if jit_compile else 2)
    fit(gan, make_images(2))
    weights = [weight.value for one in (gan.generator, gan.discriminator, gan.ema_generator) for weight in one.weights]
    copies = [[copy.numpy() for copy in getattr(weight, "values", [weight])] for weight in weights]
    assert all((copy == several[0]).all() for several in copies for copy in several)
    return [several[0] for several in copies]


def update_by_adam(strategy):
    """The copies of a weight after three updates by FusedAdam, the gradients of replica i being 0.5, 1 + i, 2 + i."""
    with strategy.scope():
        weight, optimizer = keras.Variable(np.ones(3, "float32")), FusedAdam(0.1, beta_1=0.5, beta_2=0.9)
        optimizer.build([weight])

    def update():
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, "float32")
        optimizer.apply([tf.constant([0.5, 1.0, 2.0]) + replica * tf.constant([0.0, 1.0, 1.0])], [weight])

    run = tf.function(lambda: strategy.run(update))
    for _ in range(3):
        run()
    return [copy.numpy() for copy in strategy.experimental_local_results(weight.value)]


def far_map():
    """A map whose mean is far from zero, and farther in the second half of the batch."""
    x = np.random.default_rng(0).normal(3000, 1, (8, 9, 9, 4)) + 5 * (np.arange(8) // 4)[:, None, None, None]
    return x.astype("float32")


def normalize_far_map(strategy):
    """The far map, normalized over all replicas."""
    with strategy.scope():
        layer = BatchNormalization(epsilon=1e-5, synchronized=True)
        layer.build(far_map().shape)
    parts = np.split(far_map(), strategy.num_replicas_in_sync)
    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )
    outputs = strategy.run(tf.function(lambda part: layer(part, training=True)), (values,))
    return np.concatenate([part.numpy() for part in outputs.values])


def read_ahead():
    """Batches copied to the last device as if it were a GPU, which fetches the second before it is asked for."""
    second_was_fetched = threading.Event()

    def watch(label):
        if label[0] == 4:
            second_was_fetched.set()
        return label

    data = tf.data.Dataset.range(20, output_type=tf.int32).batch(4)
    data = data.map(lambda label: (tf.cast(label, tf.uint8), tf.numpy_function(watch, [label], tf.int32)))
    data = without_autotuning(data)  # which would prefetch before the copy
    batches = iter(prefetch_to_last_cpu(data, tf.distribute.get_strategy()))
    read = [next(batches)]
    assert second_was_fetched.wait(120)
    as_optional = tf.function(lambda iterator: iterator.get_next_as_optional().get_value())
    read += [next(batches), as_optional(batches), *batches]
    last = tf.config.list_logical_devices("CPU")[-1].name
    assert all(part.device.endswith(last) for batch in read[:2] for part in batch)
    return np.array([[part.numpy() for part in batch] for batch in read])


def refusal_of_unequal_parts(gan):
    """The error of a step whose last replica has fewer images than the others."""
    unequal = make_data(8, 1).unbatch().batch(7)
    try:
        gan.fit(unequal, verbose=0)
    except tf.errors.InvalidArgumentError as error:
        return str(error)
    return ""


def main(replicas, path, options):
    eager = dict(run_eagerly=replicas == 1)  # faster than tracing, and a stricter comparison
    if replicas == 0:  # each worker would optimize the same graphs, as the replicas of one machine do
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    kinds = {0: ("auto", None), 1: ("single", None)}
    strategy = make_strategy(*kinds.get(replicas, ("mirrored", replicas)))
    keras.utils.set_random_seed(0)
    penalties = dict(
        lecam_weight=0.01, lecam_start_step=1, consistency_real_weight=0.01, consistency_fake_weight=0.01,
        ada_target=0.6, ada_images=128,
    )  # fmt: skip
    arguments = (
        dict(compile_arguments=dict(**penalties, **eager))
        if options == "plain"
        else dict(
            augmentation=("color", "translation", "cutout"),
            compile_arguments=dict(d_steps=2, r1_weight=0.1, r1_interval=2, **eager),
        )
    )
    with strategy.scope():
        gan = make_gan(rate=1e-4, ema_decay=0.9, attention_sizes=(), **arguments)
    gan.ada_p.assign(0.5)
    gan.prepare_images = functools.partial(prepare_images, flip=True, dequantize=True)
    fit(gan, make_data(8, 4).map(lambda image, label: (tf.cast((image + 1) * 127.5, tf.uint8), label)))
    results = gan.evaluate(make_data(8, 2, seed=1), verbose=0)
    # The last batch has 3 images: 2 on the first replica and 1 on the second, or none on the last of four.
    results += gan.evaluate(make_data(11, 1, seed=1).unbatch().batch(8), verbose=0)
    lecam = dict(lecam_weight=1e-3, lecam_start_step=1)
    steps = 2 if replicas > 2 else 1  # per call; on two replicas `train_on_local_statistics` makes two
    with strategy.scope():
        small = make_small(rate=1e-3, loss=OVERFLOWING, steps_per_execution=steps, **lecam, **eager)
    fit(small, make_images(4, bright=14))  # the seventh image of the second batch: on the last replica
    optimizers = small.generator_optimizer.variables + small.discriminator_optimizer.variables
    weights = [w for one in (gan, small) for w in (*one.generator.weights, *one.discriminator.weights,
                                                    *one.ema_generator.weights)] + optimizers  # fmt: skip
    # The last replica's copy, so that diverging replicas are detected.
    *copies, means, small_means, ada_p = [
        (w.value.values[-1] if hasattr(w.value, "values") else w.value).numpy()
        for w in (*weights, gan.lecam_means, small.lecam_means, gan.ada_p)
    ]
    for jit_compile in () if replicas == 1 else (False, True) if options == "plain" else (False,):
        np.savez(f"{path}.local_{jit_compile}.npz", *train_on_local_statistics(strategy, jit_compile))
    if options == "plain" and replicas > 1:
        parts = dict(adam=update_by_adam(strategy), normalized=normalize_far_map(strategy), read=read_ahead())
        parts["unequal"] = refusal_of_unequal_parts(gan)
        np.savez(f"{path}.parts.npz", **parts)
    np.savez(path, *copies, results=np.array([*results, *means, *small_means, ada_p]), scaling=scaling_state(small))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
