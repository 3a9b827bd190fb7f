"""Miyato et al. 2018 in NumPy float64, and the layers to compare with it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras
import numpy as np
from keras import layers


class Case(NamedTuple):
    """A Keras layer to normalize.

    Args:
        make: Makes the layer, keyword arguments -> layer.
        input_shape: tuple, with the batch.
        output_axes: dict, name of each kernel -> its axes that count outputs.
    """

    make: Callable
    input_shape: tuple
    output_axes: dict

    def inputs(self):
        rng = np.random.default_rng(1)
        if self.make.func is layers.Embedding:
            return rng.integers(0, 9, self.input_shape)
        return rng.normal(size=self.input_shape).astype("float32")

    def kernels(self, layer):
        """The layer's kernels, [(weight, output axes)]."""
        return [(weight, self.output_axes[weight.name]) for weight in layer.weights if weight.name in self.output_axes]


def _time_distributed(dtype=None):
    return layers.TimeDistributed(layers.Conv2DTranspose(5, 3, dtype=dtype), dtype=dtype)


CASES = {
    "dense": Case(partial(layers.Dense, 5), (3, 7), {"kernel": (1,)}),
    "conv1d": Case(partial(layers.Conv1D, 5, 3), (2, 9, 4), {"kernel": (2,)}),
    "conv2d": Case(partial(layers.Conv2D, 5, 3), (2, 6, 6, 4), {"kernel": (3,)}),
    "conv3d": Case(partial(layers.Conv3D, 3, 2), (2, 4, 4, 4, 2), {"kernel": (4,)}),
    "conv1d_transpose": Case(partial(layers.Conv1DTranspose, 5, 3), (2, 6, 4), {"kernel": (1,)}),
    "conv2d_transpose": Case(partial(layers.Conv2DTranspose, 5, 3), (2, 6, 6, 4), {"kernel": (2,)}),
    "conv3d_transpose": Case(partial(layers.Conv3DTranspose, 3, 2), (2, 4, 4, 4, 2), {"kernel": (3,)}),
    "inside_time_distributed": Case(partial(_time_distributed), (2, 2, 6, 6, 4), {"kernel": (2,)}),
    "depthwise": Case(partial(layers.DepthwiseConv2D, 3, depth_multiplier=2), (2, 6, 6, 4), {"kernel": (2, 3)}),
    "separable": Case(
        partial(layers.SeparableConv2D, 3, 2, depth_multiplier=2),
        (2, 5, 5, 4),
        {"depthwise_kernel": (2, 3), "pointwise_kernel": (3,)},
    ),
    "embedding": Case(partial(layers.Embedding, 9, 4), (3, 5), {"embeddings": (0,)}),
    "einsum": Case(partial(layers.EinsumDense, "ab,bc->ac", output_shape=5), (3, 7), {"kernel": (1,)}),
    "einsum_heads": Case(
        partial(layers.EinsumDense, "abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"),
        (2, 3, 5),
        {"kernel": (1, 2)},
    ),
    "lstm": Case(partial(layers.LSTM, 3), (2, 5, 4), {"kernel": (1,), "recurrent_kernel": (1,)}),
}


def as_matrix(kernel, axes):
    """A kernel as a matrix (outputs, other axes), float64."""
    moved = np.moveaxis(np.asarray(kernel, np.float64), axes, range(len(axes)))
    return moved.reshape(int(np.prod(moved.shape[: len(axes)])), -1)


def as_kernel(matrix, axes, shape):
    """The inverse of `as_matrix`."""
    moved = np.moveaxis(np.empty(shape), axes, range(len(axes)))
    return np.moveaxis(matrix.reshape(moved.shape), range(len(axes)), axes)


def power_iteration(matrix, u, iterations=1, epsilon=1e-12):
    """Algorithm 1: sigma, u and v of a matrix (outputs, other axes)."""
    u = np.asarray(u, np.float64)
    for _ in range(iterations):
        v = matrix.T @ u
        v = v / (np.linalg.norm(v) + epsilon)
        u = matrix @ v
        u = u / (np.linalg.norm(u) + epsilon)
    return u @ matrix @ v, u, v


def normalized(kernel, u, axes, iterations=1):
    """W / sigma, the shape of the kernel."""
    return np.asarray(kernel, np.float64) / power_iteration(as_matrix(kernel, axes), u, iterations)[0]


def kernel_gradient(upstream, kernel, u, axes, iterations=1):
    """Equation 12: dL/dW from G = dL/d(W / sigma), both of the shape of the kernel."""
    w, g = as_matrix(kernel, axes), as_matrix(upstream, axes)
    sigma, u, v = power_iteration(w, u, iterations)
    return as_kernel((g - np.sum(g * w) / sigma * np.outer(u, v)) / sigma, axes, kernel.shape)


def largest_singular_value(kernel, axes):
    return np.linalg.norm(as_matrix(kernel, axes), 2)


def first_left_singular_vector(kernel, axes):
    return np.linalg.svd(as_matrix(kernel, axes))[0][:, 0]


def plain_layer(case, weights):
    """The plain Keras layer of a case in float64 with given weights."""
    layer = case.make(dtype="float64")
    layer.build(case.input_shape)
    layer.set_weights(weights)
    return layer


def random_weights(layer, seed=0):
    """Sets biases and similar weights to nonzero values."""
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])


def relative_error(got, want):
    """Largest difference divided by the largest expected entry."""
    got, want = (keras.ops.convert_to_numpy(x).astype(np.float64) for x in (got, want))
    return np.abs(got - want).max() / np.abs(want).max()
