"""Outputs, gradients and training steps of our layers on the backend that KERAS_BACKEND names, for comparison.

KERAS_BACKEND=jax python tests/layers/backend_run.py OUT.npz
"""

import inspect
import sys

import keras
import numpy as np
from keras import layers, ops

from sagan_tf.layers import (
    BatchNormalization,
    ConditionalBatchNormalization,
    Conv2D,
    NearestUpsampling,
    ReLU,
    ResidualSum,
    SelfAttention,
    SpectralNormalization,
)


def noise(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


IMAGES, LABELS = noise(4, 4, 6, 16), np.array([0, 2, 2, 1], "int32")


SUBJECTS = {
    "dense": (lambda: SpectralNormalization(layers.Dense(5)), noise(3, 7)),
    "conv2d": (lambda: SpectralNormalization(layers.Conv2D(5, 3), power_iterations=3), IMAGES),
    "transposed": (lambda: SpectralNormalization(layers.Conv2DTranspose(5, 3)), IMAGES),
    "depthwise": (lambda: SpectralNormalization(layers.DepthwiseConv2D(3, depth_multiplier=2)), IMAGES),
    "embedding": (lambda: SpectralNormalization(layers.Embedding(3, 4)), LABELS),
    "attention": (lambda: SelfAttention(), IMAGES),
    "attention_paper": (lambda: SelfAttention(value_reduction=8, pool_size=1), IMAGES),
    "attention_in_blocks": (lambda: SelfAttention(query_block_size=5), IMAGES),
    "convolution": (lambda: Conv2D(5, 3, padding="same"), IMAGES),
    "upsampled": (lambda: Conv2D(5, 3, padding="same", resampling="up"), IMAGES),
    "pooled": (lambda: Conv2D(5, 3, padding="same", resampling="down"), IMAGES),
    "upsampling": (lambda: NearestUpsampling(), IMAGES),
    "relu": (lambda: ReLU(), IMAGES),
    "residual_sum": (lambda: ResidualSum(), [IMAGES, IMAGES[::-1].copy()]),
    "batch": (lambda: BatchNormalization(), IMAGES),
    "conditional": (lambda: ConditionalBatchNormalization(3), [IMAGES, LABELS]),
}


def random_weights(layer):
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        value = 0.5 * rng.normal(size=weight.shape)
        weight.assign(np.abs(value) if "variance" in weight.name else value)


def gradients(layer, inputs):
    """Gradients of the sum of cubed outputs of a training call, which also updates the layer's state."""
    trainable = layer.trainable_variables
    if not trainable:
        layer(inputs, training=True)
        return []
    if keras.backend.backend() == "jax":
        return jax_gradients(layer, inputs)
    if keras.backend.backend() == "torch":
        ops.sum(layer(inputs, training=True) ** 3).backward()
        return [variable.value.grad for variable in trainable]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = ops.sum(layer(inputs, training=True) ** 3)
    return tape.gradient(loss, [variable.value for variable in trainable])


def jax_gradients(layer, inputs):
    import jax

    # Unlike `layer(...)`, this passes the argument to layers that do not accept it.
    takes = {"training": True} if "training" in inspect.signature(layer.call).parameters else {}

    def loss(trainable, state):
        outputs, state = layer.stateless_call(trainable, state, inputs, **takes)
        return ops.sum(outputs**3), state

    groups = (layer.trainable_variables, layer.non_trainable_variables)
    values = [[variable.value for variable in group] for group in groups]
    result, state = jax.jit(jax.grad(loss, has_aux=True))(*values)
    for variable, value in zip(layer.non_trainable_variables, state, strict=True):
        variable.assign(value)
    return result


def penalty_gradients(layer, first, rest):
    """Gradients of a penalty, the squared gradient of a training call in its first input, in that and the weights."""
    weights = layer.trainable_variables
    takes = {"training": True} if "training" in inspect.signature(layer.call).parameters else {}

    def inputs_of(first):
        return [first, *rest] if rest else first

    if keras.backend.backend() == "jax":
        import jax

        state = [variable.value for variable in layer.non_trainable_variables]

        def penalty(first, values):
            def total(first):
                return ops.sum(ops.sin(layer.stateless_call(values, state, inputs_of(first), **takes)[0]))

            return ops.sum(jax.grad(total)(first) ** 2)

        of_first, of_weights = jax.jit(jax.grad(penalty, (0, 1)))(first, [variable.value for variable in weights])
        return [of_first, *of_weights]
    if keras.backend.backend() == "torch":
        import torch

        first = first.detach().requires_grad_()
        total = ops.sum(ops.sin(layer(inputs_of(first), **takes)))
        (gradient,) = torch.autograd.grad(total, first, create_graph=True)
        return torch.autograd.grad(
            ops.sum(gradient**2), [first, *(each.value for each in weights)], materialize_grads=True, allow_unused=True
        )
    import tensorflow as tf

    with tf.GradientTape() as outer:
        outer.watch(first)
        with tf.GradientTape() as inner:
            inner.watch(first)
            total = ops.sum(ops.sin(layer(inputs_of(first), **takes)))
        penalty = ops.sum(inner.gradient(total, first) ** 2)
    sources = [first, *(variable.value for variable in weights)]
    return outer.gradient(penalty, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def run_layer(make, inputs):
    layer, inputs = make(), keras.tree.map_structure(ops.convert_to_tensor, inputs)
    layer(inputs)
    random_weights(layer)
    outputs = {"output": layer(inputs)}
    first, *rest = inputs if isinstance(inputs, list) else [inputs]
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(first.dtype)):
        before = [np.array(ops.convert_to_numpy(weight)) for weight in layer.weights]
        penalties = penalty_gradients(layer, first, rest)
        outputs |= {f"penalty_gradient_{i}": gradient for i, gradient in enumerate(penalties)}
        layer.set_weights(before)
    outputs |= {f"gradient_{i}": gradient for i, gradient in enumerate(gradients(layer, inputs))}
    outputs |= {f"state_{i}": weight for i, weight in enumerate(layer.non_trainable_weights)}
    return outputs


def run_fit():
    """Weights after three steps of `fit` of a model of all three layers."""
    inputs = [keras.Input((4, 6, 16)), keras.Input((), dtype="int32")]
    x = SelfAttention()(SpectralNormalization(layers.Conv2D(16, 3, padding="same"))(inputs[0]))
    x = ConditionalBatchNormalization(3)([x, inputs[1]])
    model = keras.Model(inputs, SpectralNormalization(layers.Dense(2))(layers.GlobalAveragePooling2D()(x)))
    random_weights(model)
    model.compile(keras.optimizers.SGD(0.05), "mse")
    model.fit([np.tile(IMAGES, (3, 1, 1, 1)), np.tile(LABELS, 3)], noise(12, 2), batch_size=4, shuffle=False, verbose=0)
    return {f"weight_{i}": weight for i, weight in enumerate(model.weights)}


def run():
    """Everything, name -> NumPy array."""
    results = {name: run_layer(*subject) for name, subject in SUBJECTS.items()} | {"fit": run_fit()}
    pairs = ((f"{name}/{part}", value) for name, parts in results.items() for part, value in parts.items())
    return {name: ops.convert_to_numpy(value) for name, value in pairs}


if __name__ == "__main__":
    np.savez(sys.argv[1], **run())
