"""Attention maps of a network's layers, and how far its convolutions see without them; knows nothing of files."""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from sagan_tf.layers import SelfAttention, SpectralNormalization


@dataclass(frozen=True)
class AttentionMaps:
    """What one attention layer does with some pictures.

    Symbols: B pictures, N = H*W queries and M = h*w keys, row by row, C channels.

    Args:
        layer: Name of the layer.
        scores: (B, N, M) float32, rows sum to 1.
        features: (B, H, W, C) float32, what the layer was given.
        key_shape: (h, w).
        gamma: float, the weight of the layer's sum.
        field: (H, h) bool: whether convolutions alone join a query's row (or column) with a key's; see
            `receptive_fields`.
        shrunken: bool. Brought to coarser grids than the layer's, for an explorer.
    """

    layer: str
    scores: np.ndarray
    features: np.ndarray
    key_shape: tuple
    gamma: float
    field: np.ndarray
    shrunken: bool = False

    @property
    def query_shape(self):
        """(H, W)."""
        return self.features.shape[1:3]

    def map_of(self, picture, query):
        """The map of one query position.

        Args:
            picture: int.
            query: (row, column) in the feature map.

        Returns:
            (h, w) float32 that sums to 1.
        """
        row, column = query
        return self.scores[picture, row * self.query_shape[1] + column].reshape(self.key_shape)


class AttentionProbe:
    """Reads the attention maps of a network as it computes.

    Args:
        network: keras.Model of `build_generator` or `build_discriminator`.

    Attributes:
        layers: dict, name -> `SelfAttention`, from the network's input on.
        scores_a_picture: int, N*M of the largest layer; 0 without attention.
    """

    def __init__(self, network):
        self.network = network
        self.layers = {layer.name: layer for layer in network.layers if isinstance(layer, SelfAttention)}
        sizes = {name: layer.input.shape[1] * layer.input.shape[2] for name, layer in self.layers.items()}
        self.scores_a_picture = max(
            [sizes[name] ** 2 // layer.pool_size**2 for name, layer in self.layers.items()], default=0
        )
        self._fields = receptive_fields(network) if self.layers else {}
        taps = {name: layer.input for name, layer in self.layers.items()}
        self._tapped = keras.Model(network.inputs, {"output": network.output, **taps})
        self._run = tf.function(self._compute, autograph=False, reduce_retracing=True)

    def _compute(self, inputs):
        taps = self._tapped(inputs, training=False)
        found = []
        for name, layer in self.layers.items():
            x = taps[name]
            _, scores = layer(x, training=False, return_attention_scores=True)
            found.append((ops.cast(scores, "float32"), ops.cast(x, "float32")))
        return ops.cast(taps["output"], "float32"), found

    def look(self, inputs, batch_size=8):
        """Runs the network on pictures or latents.

        Args:
            inputs: List of the network's inputs, arrays with a batch axis; or the only one.
            batch_size: int >= 1, rows computed at a time.

        Returns:
            (output, dict of name -> `AttentionMaps`), arrays.
        """
        inputs = [np.asarray(x) for x in (inputs if isinstance(inputs, (list, tuple)) else [inputs])]
        outputs, parts = [], []
        for start in range(0, len(inputs[0]), batch_size):
            batch = [tf.constant(x[start : start + batch_size]) for x in inputs]
            output, found = self._run(batch)
            outputs.append(output.numpy())
            parts.append([(scores.numpy(), x.numpy()) for scores, x in found])
        maps = {}
        for i, (name, layer) in enumerate(self.layers.items()):
            scores, features = (np.concatenate([part[i][j] for part in parts]) for j in (0, 1))
            key_shape = tuple(size // layer.pool_size for size in features.shape[1:3])
            gamma = float(ops.convert_to_numpy(layer.gamma))
            maps[name] = AttentionMaps(name, scores, features, key_shape, gamma, self._fields[name])
        return np.concatenate(outputs), maps


def receptive_fields(network):
    """Finds what the convolutions between an attention layer and the picture join without any attention.

    In a discriminator, position i is joined with j where what i was computed from has pixels under j. In a generator,
    where one pixel of the picture is computed from both. Height and width are alike, so one axis tells all: a query is
    joined with a key when they are joined in rows and in columns.

    Args:
        network: Functional keras.Model of `build_generator` or `build_discriminator`, square.

    Returns:
        dict, name of the attention layer -> (H, h) bool, h = H / pool_size.
    """
    attention = {layer.name: layer for layer in network.layers if isinstance(layer, SelfAttention)}
    picture = [tensor for tensor in network.inputs if len(tensor.shape) == 4]
    fields = {}
    for name, layer in attention.items():
        size = layer.input.shape[1]
        if picture:
            seen = _dependence(network, picture[0], layer.input)  # (H, S)
            # A pixel belongs to the position above it.
            joined = seen.reshape(size, size, -1).any(-1)
        else:
            made = _dependence(network, layer.output, network.output)  # (S, H)
            joined = made.T.astype(int) @ made > 0
        fields[name] = joined.reshape(size, -1, layer.pool_size).any(-1)
    return fields


def _dependence(network, start, end):
    """Which positions of `start` a position of `end` depends on, along one axis: (size of end, size of start) bool."""
    found = {id(start): np.eye(start.shape[1], dtype=bool)}
    for operation in network.operations:
        outputs = operation.output
        if isinstance(outputs, list) or id(outputs) in found:
            continue
        inputs = operation.input if isinstance(operation.input, list) else [operation.input]
        known = [found[id(x)] for x in inputs if id(x) in found]
        if known and len(outputs.shape) == 4:
            found[id(outputs)] = _through(operation, np.any(known, axis=0), outputs.shape[1])
    return found[id(end)]


def _through(operation, seen, size):
    layer = operation.layer if isinstance(operation, SpectralNormalization) else operation
    if size > len(seen):  # nearest-neighbour up-sampling, also that of a convolution
        seen = np.repeat(seen, size // len(seen), axis=0)
    if isinstance(layer, keras.layers.Conv2D):
        reach = layer.kernel_size[0] // 2
        padded = np.pad(seen, ((reach, reach), (0, 0)))
        seen = np.any([padded[i : i + len(seen)] for i in range(2 * reach + 1)], axis=0)
    if size < len(seen):  # pooling
        return seen.reshape(size, -1, seen.shape[1]).any(1)
    return seen
