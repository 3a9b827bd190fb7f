"""Reads the attention maps of a network."""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from sagan_tf.layers import SelfAttention
from sagan_tf.viewing.receptive_fields import receptive_fields


@dataclass(frozen=True)
class AttentionMaps:
    """Attention of one layer for B images.

    Symbols: N = H*W queries and M = h*w keys, row by row, C channels.

    Args:
        layer: str, name of the layer.
        scores: (B, N, M) float32, rows sum to 1.
        features: (B, H, W, C) float32, the layer's input.
        key_shape: (h, w).
        gamma: float, the layer's residual weight.
        fields: ((H, h) bool, (W, w) bool), see `receptive_fields`.
        shrunken: bool. The grids are coarser than the layer's, for an explorer.
    """

    layer: str
    scores: NDArray[np.float32]
    features: NDArray[np.float32]
    key_shape: tuple[int, int]
    gamma: float
    fields: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    shrunken: bool = False

    @property
    def query_shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.features.shape[1:3]

    def map_of(self, image: int, query: tuple[int, int]) -> NDArray[np.float32]:
        """Returns the map of a query.

        Args:
            image: int in 0 .. B-1.
            query: (row, column), its position in the feature map, from the top left.

        Returns:
            (h, w) float32, which sums to 1.

        Raises:
            ValueError: The query is outside of the feature map (H, W); its positions are not those of pixels.
        """
        row, column = query
        height, width = self.query_shape
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(f"`query` must be in the feature map of {height} x {width} positions. Received: {query}.")
        return self.scores[image, row * self.query_shape[1] + column].reshape(self.key_shape)


class AttentionProbe:
    """Reads the attention maps of a network while it computes.

    Args:
        network: keras.Model of `build_generator` or `build_discriminator`, whose weights may change between calls.

    Attributes:
        layers: dict, name -> `SelfAttention`, in the order of the network.
        scores_per_image: int, N*M of the largest layer; 0 without attention.
    """

    def __init__(self, network):
        self.layers = {layer.name: layer for layer in network.layers if isinstance(layer, SelfAttention)}
        queries = {name: layer.input.shape[1] * layer.input.shape[2] for name, layer in self.layers.items()}
        scores = [queries[name] ** 2 // layer.pool_size**2 for name, layer in self.layers.items()]
        self.scores_per_image = max(scores, default=0)
        self._fields = receptive_fields(network) if self.layers else {}
        layer_inputs = {name: layer.input for name, layer in self.layers.items()}
        self._network = keras.Model(network.inputs, {"output": network.output, **layer_inputs})
        self._run = tf.function(self._compute, autograph=False, reduce_retracing=True)

    def _compute(self, inputs):
        tensors = self._network(inputs, training=False)
        scores_and_features = []
        for name, layer in self.layers.items():
            _, scores = layer(tensors[name], training=False, return_attention_scores=True)
            scores_and_features.append((ops.cast(scores, "float32"), ops.cast(tensors[name], "float32")))
        return ops.cast(tensors["output"], "float32"), scores_and_features

    def attention_maps(self, inputs, batch_size=8):
        """Runs the network and reads its attention.

        Args:
            inputs: List of the network's inputs, arrays of N >= 1 rows each.
            batch_size: int >= 1, rows per batch.

        Returns:
            (output array of N rows, float32; dict, name of a layer -> `AttentionMaps` of N images).
        """
        outputs, parts = [], []
        for start in range(0, len(inputs[0]), batch_size):
            output, scores_and_features = self._run([tf.constant(x[start : start + batch_size]) for x in inputs])
            outputs.append(output.numpy())
            parts.append([(scores.numpy(), features.numpy()) for scores, features in scores_and_features])
        maps = {}
        for i, (name, layer) in enumerate(self.layers.items()):
            scores, features = (np.concatenate([part[i][j] for part in parts]) for j in (0, 1))
            key_shape = tuple(size // layer.pool_size for size in features.shape[1:3])
            gamma = float(ops.convert_to_numpy(layer.gamma))
            maps[name] = AttentionMaps(name, scores, features, key_shape, gamma, self._fields[name])
        return np.concatenate(outputs), maps
