"""Writes what the compiled kernels give for large inputs to FILE; run in its own process to set the threads."""

import sys

import numpy as np
import tensorflow as tf

from sagan_tf.accelerate import compiled
from sagan_tf.layers.functional import Estimate

TIMES = 3


def results():
    """Outputs and gradients of all kernels, as arrays."""
    kernels, rng = compiled.kernels(), np.random.default_rng(0)
    x, upstream = (tf.cast(rng.normal(size=(5, 64, 64, 48)), tf.bfloat16) for _ in range(2))
    kernel, u, v = (tf.constant(rng.normal(size=shape), tf.float32) for shape in ((2304, 256), (256,), (2304,)))
    rows, narrow = tf.ones((5, 48)), tf.cast(kernel, tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch([x, rows, kernel])
        y, *moments = kernels["batch_normalize"].run(x, rows, rows, 1e-3, False)
        total = kernels["relu"].run(y) + x
        estimate = Estimate(u, v, *tf.unstack([0.5, -0.25]))
        scaled = kernels["divide_by_sigma"].run(kernel, estimate, (-1,), "float32", "bfloat16")
        loss = [tf.cast(total * upstream, tf.float32), tf.cast(scaled * narrow, tf.float32)]
    gradients = tape.gradient(loss, [x, rows, kernel])
    vectors = kernels["power_iterations"].run([kernel, kernel[:9]], [u, u], 2, 1e-12)
    tensors = [y, *moments, total, scaled, *tf.nest.flatten(vectors), *map(tf.convert_to_tensor, gradients)]
    return [tf.cast(each, tf.float64).numpy() for each in tensors]


if __name__ == "__main__":
    np.savez(sys.argv[1], *(each for _ in range(TIMES) for each in results()))
