"""The gradient of the mean loss over batches, and its application, on losses whose gradients are known."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sagan_tf.training.loss_scale import DynamicLossScaleOptimizer
from sagan_tf.training.updates import LazyTerms, apply_gradients, mean_gradients

SCALED = {
    "dynamic": lambda: DynamicLossScaleOptimizer(keras.optimizers.SGD(0.1)),
    "fixed": lambda: keras.optimizers.SGD(0.1, loss_scale_factor=1024.0),
    "plain": lambda: keras.optimizers.SGD(0.1),
}


def update(optimizer, loss_of_batch, count, variables, **options):
    """Makes an optimizer step; returns the loss and the gradient's norm."""
    loss, gradients = mean_gradients(optimizer, loss_of_batch, count, variables, **options)
    return loss, apply_gradients(optimizer, gradients, variables)


@pytest.mark.parametrize("is_looped", [False, True])
@pytest.mark.parametrize("kind", SCALED)
def test_update_does_not_depend_on_the_loss_scale(kind, is_looped):
    weight = keras.Variable([1.0, 2.0, 2.0])
    optimizer = SCALED[kind]()
    optimizer.build([weight])

    def loss_of_batch(i):
        return tf.gather([0.5, 1.5], i) * tf.reduce_sum(weight**2), None

    loss, norm = update(optimizer, loss_of_batch, 2, [weight], is_looped=is_looped)
    assert (float(loss), float(norm)) == (9.0, 6.0)
    np.testing.assert_allclose(weight, [0.8, 1.6, 1.6], rtol=1e-6)


def test_update_is_skipped_when_scaled_gradients_are_not_finite():
    weight = keras.Variable([1.0, 2.0])
    optimizer = SCALED["dynamic"]()
    optimizer.build([weight])
    tf.function(lambda: update(optimizer, lambda _: (1e35 * tf.reduce_sum(weight), None), 1, [weight]))()
    np.testing.assert_array_equal(weight, [1.0, 2.0])
    assert float(optimizer.dynamic_scale) == 2.0**14


@pytest.mark.parametrize("is_looped", [False, True])
@pytest.mark.parametrize("make", [*SCALED.values(), lambda: keras.optimizers.Adam(0.1, weight_decay=0.1)])
def test_update_leaves_a_variable_that_the_loss_does_not_depend_on(make, is_looped):
    used, unused = keras.Variable([1.0, 2.0]), keras.Variable([3.0, 4.0])
    optimizer = make()
    optimizer.build([used, unused])
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        update(optimizer, lambda _: (tf.reduce_sum(used), None), 2, [used, unused], is_looped=is_looped)
    assert (used.numpy() < [1.0, 2.0]).all()
    np.testing.assert_array_equal(unused, [3.0, 4.0])


def operations(graph):
    """Names of the operations of a graph and of all functions in it."""
    definition = graph.as_graph_def()
    return [node.op for part in (definition.node, *(f.node_def for f in definition.library.function)) for node in part]


def test_update_has_lazy_terms_only_when_due():
    weight, other, seen = keras.Variable([1.0, 2.0]), keras.Variable(3.0), keras.Variable(0.0)
    optimizer = SCALED["fixed"]()
    optimizer.build([weight, other])

    def loss_of_batch(_):
        terms = lambda: [tf.reduce_sum(tf.sin(weight)), tf.reduce_sum(weight**2)]  # noqa: E731
        lazy = LazyTerms(optimizer.iterations % 2 == 0, 2, terms, lambda terms: seen.assign(terms[1]))
        return tf.reduce_sum(3 * weight) + other, lazy

    step = tf.function(lambda: mean_gradients(optimizer, loss_of_batch, 1, [weight, other]))
    for wanted, gradient, second in ((9 + np.sin(1) + np.sin(2) + 5 + 3, 3 + np.cos([1, 2]) + [2, 4], 5), (12, 3, 0)):
        loss, gradients = step()
        np.testing.assert_allclose(loss, wanted, rtol=1e-6)
        np.testing.assert_allclose(gradients[0], 1024 * np.broadcast_to(gradient, 2), rtol=1e-6)
        assert (float(gradients[1]), float(seen)) == (1024, second)
        optimizer.iterations.assign_add(1)
    # The gradient of a conditional keeps what it computed in optional tensors, which XLA cannot compile.
    assert not [name for name in operations(step.get_concrete_function().graph) if "Optional" in name]
