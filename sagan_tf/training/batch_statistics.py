"""Batch statistics on several replicas: of the global batch, or of each replica's own images."""

import tensorflow as tf

from sagan_tf.layers.batch_normalization import batch_normalizations


def has_global_statistics(network):
    """Whether a layer of a network normalizes by the statistics of the global batch."""
    return any(layer.synchronized for layer in batch_normalizations(network))


def average_local_statistics(network):
    """Sets the moving statistics that come from each replica's own images to their mean over the replicas.

    A moving statistic is linear in those of the batches, so the mean is the same once per step as after each pass. All
    replicas must call it. On one replica it does nothing.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return
    layers = [layer for layer in batch_normalizations(network) if layer.trainable and not layer.synchronized]
    variables = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    if variables:
        # Copies, which are on the replica's device: MultiWorkerMirroredStrategy asks for it.
        values = [tf.identity(variable) for variable in variables]
        means = tf.distribute.get_replica_context().all_reduce("MEAN", values)
        for variable, mean in zip(variables, means):
            variable.assign(mean)
