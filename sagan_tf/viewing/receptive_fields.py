"""Which positions of an attention layer the convolutions between it and the image connect without attention."""

import keras
import numpy as np

from sagan_tf.layers import SelfAttention, SpectralNormalization


def receptive_fields(network):
    """Finds which queries and keys of each attention layer the convolutions connect without attention.

    In a discriminator, a query is connected with the keys whose pixels it was computed from; in a generator, with the
    keys from which a pixel is computed together with it. Images are square and height and width are treated alike, so
    one axis is enough: a query and a key are connected if they are along rows and along columns.

    Returns a dict, name of the layer -> (H, h) bool, h = H / pool_size.
    """
    images = [tensor for tensor in network.inputs if len(tensor.shape) == 4]
    fields = {}
    for layer in network.layers:
        if not isinstance(layer, SelfAttention):
            continue
        size = layer.input.shape[1]
        if images:
            pixels = _dependence(network, images[0], layer.input)  # (H, S)
            connected = pixels.reshape(size, size, -1).any(-1)
        else:
            positions = _dependence(network, layer.output, network.output)  # (S, H)
            connected = positions.T.astype(int) @ positions > 0
        fields[layer.name] = connected.reshape(size, -1, layer.pool_size).any(-1)
    return fields


def _dependence(network, start, end):
    """Which positions of `start` a position of `end` depends on, along one axis: (size of end, size of start) bool."""
    masks = {id(start): np.eye(start.shape[1], dtype=bool)}
    for operation in network.operations:
        outputs = operation.output
        if isinstance(outputs, list) or id(outputs) in masks:
            continue
        inputs = operation.input if isinstance(operation.input, list) else [operation.input]
        input_masks = [masks[id(x)] for x in inputs if id(x) in masks]
        if input_masks and len(outputs.shape) == 4:
            masks[id(outputs)] = _propagate(operation, np.any(input_masks, axis=0), outputs.shape[1])
    return masks[id(end)]


def _propagate(operation, mask, size):
    """The mask of an operation's output of `size` rows, from that of its input."""
    layer = operation.layer if isinstance(operation, SpectralNormalization) else operation
    if size > len(mask):  # nearest-neighbour upsampling, possibly fused with a convolution
        mask = np.repeat(mask, size // len(mask), axis=0)
    if isinstance(layer, keras.layers.Conv2D):
        radius = layer.kernel_size[0] // 2
        padded = np.pad(mask, ((radius, radius), (0, 0)))
        mask = np.any([padded[i : i + len(mask)] for i in range(2 * radius + 1)], axis=0)
    if size < len(mask):  # pooling
        return mask.reshape(size, -1, mask.shape[1]).any(1)
    return mask
