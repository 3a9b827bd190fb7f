"""Which positions of an attention layer the convolutions between it and the image connect without attention."""

import keras
import numpy as np

from sagan_tf.layers import SelfAttention, SpectralNormalization


def receptive_fields(network):
    """Finds which queries and keys of each attention layer the convolutions connect without attention.

    In a discriminator, a query is connected with the keys whose pixels it was computed from; in a generator, with the
    keys from which a pixel is computed together with it. A query and a key are connected if they are along rows and
    along columns.

    Returns a dict, name of the layer -> ((H, h) bool, (W, w) bool), h = H / pool_size, w = W / pool_size.
    """
    layers = [layer for layer in network.layers if isinstance(layer, SelfAttention)]
    return {layer.name: (_connected(network, layer, 1), _connected(network, layer, 2)) for layer in layers}


def _connected(network, layer, axis):
    """Which queries and keys of a layer are connected along an axis: (queries, keys) bool."""
    images = [tensor for tensor in network.inputs if len(tensor.shape) == 4]
    size = layer.input.shape[axis]
    if images:
        pixels = _dependence(network, images[0], layer.input, axis)  # (queries, pixels)
        connected = pixels.reshape(size, size, -1).any(-1)
    else:
        positions = _dependence(network, layer.output, network.output, axis)  # (pixels, queries)
        connected = positions.T.astype(int) @ positions > 0
    return connected.reshape(size, -1, layer.pool_size).any(-1)


def _dependence(network, start, end, axis):
    """Which positions of `start` a position of `end` depends on, along an axis: (size of end, size of start) bool."""
    masks = {id(start): np.eye(start.shape[axis], dtype=bool)}
    for operation in network.operations:
        outputs = operation.output
        if isinstance(outputs, list) or id(outputs) in masks:
            continue
        inputs = operation.input if isinstance(operation.input, list) else [operation.input]
        input_masks = [masks[id(x)] for x in inputs if id(x) in masks]
        if input_masks and len(outputs.shape) == 4:
            masks[id(outputs)] = _propagate(operation, np.any(input_masks, axis=0), outputs.shape[axis])
    return masks[id(end)]


def _propagate(operation, mask, size):
    """The mask of an operation's output of `size` rows, from that of its input."""
    layer = operation.layer if isinstance(operation, SpectralNormalization) else operation
    # Nearest-neighbor upsampling, possibly fused with a convolution; or a transposed convolution, whose kernel of 4 px
    # reaches as far as one of 3 px after upsampling.
    if size > len(mask):
        mask = np.repeat(mask, size // len(mask), axis=0)
    if isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose):
        radius = (layer.kernel_size[0] - 1) // 2  # kernels are square
        padded = np.pad(mask, ((radius, radius), (0, 0)))
        mask = np.any([padded[i : i + len(mask)] for i in range(2 * radius + 1)], axis=0)
    if size < len(mask):  # pooling
        return mask.reshape(size, -1, mask.shape[1]).any(1)
    return mask
