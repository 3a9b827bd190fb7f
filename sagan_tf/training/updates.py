"""One optimizer step: the gradient of the mean loss over batches and replicas, and its application."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf


class LazyTerms(NamedTuple):
    """Terms of a loss that only some updates have.

    Args:
        is_due: Scalar bool tensor, whether this update has them.
        count: int, their number.
        compute: Function without arguments that returns them: a list of float32 scalars.
        record: Function of the terms, for metrics; they are 0 in an update without them.
    """

    is_due: Any
    count: int
    compute: Callable[[], Sequence[Any]]
    record: Callable[[Sequence[Any]], None]


def mean_gradients(optimizer, loss_of_batch, count, variables, tape=None, is_looped=False):
    """Computes the gradient of the mean loss over batches.

    Args:
        optimizer: Keras optimizer; it scales the loss.
        loss_of_batch: Function of i, in 0..count-1, that returns (loss, lazy): the mean loss of this replica's part of
            batch i, a scalar, and `LazyTerms` of it or None.
        count: int >= 1. Batches whose gradients are averaged (gradient accumulation).
        variables: Keras variables.
        tape: tf.GradientTape that has recorded what the loss of a single batch depends on. None: a new one per batch.
        is_looped: bool. Trace the loss of one batch only, with a scalar tensor for i.

    Returns:
        (loss, gradients): the mean loss of this replica, a scalar, and this replica's share of the scaled gradient per
        variable; None for a variable that the loss does not depend on.
    """
    # Keras' `apply` sums over replicas: each contributes its share of the mean.
    share = count * tf.distribute.get_strategy().num_replicas_in_sync

    def of_batch(i):
        return _loss_and_gradients(loss_of_batch, i, variables, lambda loss: optimizer.scale_loss(loss / share), tape)

    if is_looped and count > 1:
        loss, total = _sum_in_loop(of_batch, count, variables)
        return loss / count, total
    losses, gradients = zip(*map(of_batch, range(count)))
    total = [None if parts[0] is None else sum(parts[1:], parts[0]) for parts in zip(*gradients)]
    return keras.ops.mean(keras.ops.stack(losses)), total


def apply_gradients(optimizer, gradients, variables):
    """Makes an optimizer step on the sum over replicas of what `mean_gradients` returned.

    A variable without a gradient stays as it is, with Keras' warning. An optimizer that scales the loss unscales the
    gradients.

    Returns:
        The Euclidean norm of the gradient over all variables, float32; None on several replicas, each of which knows
        only its own share.
    """
    norm = None
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        scale = optimizer.scale_loss(1.0)
        norm = tf.linalg.global_norm([tf.cast(part, tf.float32) for part in gradients if part is not None]) / scale
    optimizer.apply(gradients, variables)
    return norm


def _loss_and_gradients(loss_of_batch, i, variables, scale, tape):
    with tape or tf.GradientTape() as recorded:
        loss, lazy = loss_of_batch(i)
        scaled = scale(loss)
    gradients = _dense_gradients(recorded, scaled, variables)
    return (loss, gradients) if lazy is None else _add_lazy_terms(lazy, loss, gradients, variables, scale)


def _add_lazy_terms(lazy, loss, gradients, variables, scale):
    """Adds terms to a loss, and their gradients, in the updates that have them.

    The gradient is taken inside of the branch. That of a `tf.cond` would keep what the branch has computed in optional
    tensors, which XLA cannot compile, or as zeros of the same size in each update.
    """
    used = [i for i, gradient in enumerate(gradients) if gradient is not None]

    def with_terms():
        with tf.GradientTape() as tape:
            terms = lazy.compute()
            scaled = scale(sum(terms))
        more = _dense_gradients(tape, scaled, variables)
        return terms, [gradients[i] if more[i] is None else gradients[i] + more[i] for i in used]

    def without():
        return [tf.constant(0.0)] * lazy.count, [gradients[i] for i in used]

    terms, changed = tf.cond(lazy.is_due, with_terms, without)
    lazy.record(terms)
    total = dict(zip(used, changed))
    return loss + sum(terms), [total.get(i) for i in range(len(gradients))]


def _dense_gradients(tape, loss, variables):
    # Dense: Keras' Adam would square the rows of a repeated label one by one.
    return [g if g is None else tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]


def _sum_in_loop(of_batch, count, variables):
    """Sums (loss, gradients) over batches in a loop, whose body is traced once."""
    unused = set()

    def body(i, total_loss, totals):
        loss, gradients = of_batch(i)
        unused.update(j for j, gradient in enumerate(gradients) if gradient is None)
        totals = [total if g is None else total + g for total, g in zip(totals, gradients)]
        return i + 1, total_loss + loss, totals

    zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
    _, loss, totals = tf.while_loop(lambda i, *_: i < count, body, (0, 0.0, zeros))
    return loss, [None if j in unused else total for j, total in enumerate(totals)]
