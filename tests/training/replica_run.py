"""Trains the tiny SAGAN on REPLICAS logical CPU devices, writes its weights and losses to FILE; run in its own process.

0 REPLICAS: on the workers that `TF_CONFIG` names. Several also train on batch statistics of their own images, with the
options `plain` with XLA too, written to FILE.local_False.npz and FILE.local_True.npz.
"""

import functools
import sys

import keras
import numpy as np
import tensorflow as tf
from training.float16 import OVERFLOWING, make_images, make_small, scaling_state
from training.tiny import fit, make_data, make_gan

from sagan_tf.training.distribution import make_strategy
from sagan_tf.training.preparation import prepare_images


def make_local(**options):
    """The small SAGAN with batch statistics of each replica's own images."""
    return make_small("float32", rate=0.01, loss="hinge", synchronized=False, **options)


def train_on_local_statistics(strategy, jit_compile):
    """Weights of generator, discriminator and averaged generator after two steps: list of arrays."""
    with strategy.scope():
        gan = make_local(jit_compile=jit_compile)
    fit(gan, make_images(2))
    weights = [weight.value for one in (gan.generator, gan.discriminator, gan.ema_generator) for weight in one.weights]
    copies = [[copy.numpy() for copy in getattr(weight, "values", [weight])] for weight in weights]
    assert all((copy == several[0]).all() for several in copies for copy in several)
    return [several[0] for several in copies]


def main(replicas, path, options):
    tf.config.run_functions_eagerly(replicas == 1)  # faster than tracing, and a stricter comparison
    kinds = {0: ("auto", None), 1: ("single", None)}
    strategy = make_strategy(*kinds.get(replicas, ("mirrored", replicas)))
    keras.utils.set_random_seed(0)
    penalties = dict(lecam_weight=0.01, lecam_start_step=1, consistency_real_weight=0.01, consistency_fake_weight=0.01)
    arguments = (
        dict(compile_arguments=dict(steps_per_execution=2, **penalties))
        if options == "plain"
        else dict(
            augmentation=("color", "translation", "cutout"),
            compile_arguments=dict(d_steps=2, r1_weight=0.1, r1_interval=2),
        )
    )
    with strategy.scope():
        gan = make_gan(rate=1e-4, ema_decay=0.9, attention_sizes=(), **arguments)
    gan.prepare_images = functools.partial(prepare_images, flip=True, dequantize=True)
    fit(gan, make_data(8, 4).map(lambda image, label: (tf.cast((image + 1) * 127.5, tf.uint8), label)))
    results = gan.evaluate(make_data(8, 2, seed=1), verbose=0)
    with strategy.scope():
        small = make_small(rate=1e-3, loss=OVERFLOWING, steps_per_execution=2, lecam_weight=1e-3, lecam_start_step=1)
    fit(small, make_images(4, bright=14))  # the seventh image of the second batch: on the last replica
    optimizers = small.generator_optimizer.variables + small.discriminator_optimizer.variables
    weights = [w for one in (gan, small) for w in (*one.generator.weights, *one.discriminator.weights,
                                                    *one.ema_generator.weights)] + optimizers  # fmt: skip
    # The last replica's copy, so that diverging replicas are detected.
    *copies, means, small_means = [
        (w.value.values[-1] if hasattr(w.value, "values") else w.value).numpy()
        for w in (*weights, gan.lecam_means, small.lecam_means)
    ]
    for jit_compile in () if replicas == 1 else (False, True) if options == "plain" else (False,):
        np.savez(f"{path}.local_{jit_compile}.npz", *train_on_local_statistics(strategy, jit_compile))
    np.savez(path, *copies, results=np.array([*results, *means, *small_means]), scaling=scaling_state(small))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
