"""Folds a trained generator into the fewest stock layers that make the same images."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from sagan_tf.layers import (
    ConditionalBatchNormalization,
    Conv2D,
    NearestUpsampling,
    ReLU,
    ResidualSum,
    SelfAttention,
    SpectralNormalization,
)
from sagan_tf.layers.functional import average_pool, move_negative_out_of_range, upsample

# Stock layers that compute the same as ours.
_STOCK = {Conv2D: keras.layers.Conv2D, ReLU: keras.layers.ReLU, ResidualSum: keras.layers.Add}


@dataclass(frozen=True)
class FoldedGenerator:
    """A generator without spectral normalization, batch statistics and custom layers, in float32.

    Symbols: B batch, D latent_dim, H, W height and width of an image in px, C image channels, K classes, R row_size.

    Args:
        model: keras.Model of stock Keras layers, [latent (B, D), label (B,) int32] -> image (B, H, W, C) in [-1, 1];
            without classes the latent alone.
        body: keras.Model sharing its weights, [latent (B, D), row (B, R)] -> dict of `image` and, by the name of each
            attention layer, its map (B, N, M); without classes the latent alone. A row holds the scales and offsets of
            all conditional normalizations; rows can be interpolated between classes.
        class_rows: Variable (K, R) float32, one row per class; None without classes.
    """

    model: keras.Model
    body: keras.Model
    class_rows: keras.Variable | None

    @property
    def latent_dim(self) -> int:
        """D."""
        return self.model.inputs[0].shape[-1]

    @property
    def num_classes(self) -> int | None:
        """K, or None."""
        return None if self.class_rows is None else self.class_rows.shape[0]

    @property
    def row_size(self) -> int | None:
        """R, or None."""
        return None if self.class_rows is None else self.class_rows.shape[1]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return tuple(self.model.output.shape[1:])

    @property
    def attention_shapes(self) -> dict[str, tuple[int, int]]:
        """Name of an attention layer -> (N, M), the numbers of queries and keys."""
        return {name: tuple(map_.shape[1:]) for name, map_ in self.body.output.items() if name != "image"}

    def generate(self, latent: Any, label: Any = None) -> dict[str, tf.Tensor]:
        """Generates images and attention maps inside a graph.

        Args:
            latent: (B, D) float32.
            label: (B,) integers in 0 .. K-1; unused without classes. What happens to a label out of range depends on
                the device; a CPU and TFLite raise an error.

        Returns:
            dict of `image` (B, H, W, C) in [-1, 1] and, by the name of each attention layer, its map (B, N, M).
        """
        latent = tf.convert_to_tensor(latent)
        if self.class_rows is None:
            return self.body(latent, training=False)
        # Keras' own lookup would take -1 for the last class.
        return self.body([latent, tf.gather(self.class_rows.value, label)], training=False)


def fold_generator(generator: keras.Model | FoldedGenerator) -> FoldedGenerator:
    """Folds a generator: the same images (but for the order of float32 sums) from fewer operations.

    Spectral normalization becomes a plain kernel W / sigma, with the sigma of inference; conditional batch
    normalization becomes one scale and one offset per class and channel, a plain one per channel; the gamma of
    attention goes into its last convolution. The result computes in float32 whatever the dtype policy of training.

    Args:
        generator: Functional keras.Model, [latent, label] or the latent alone -> image; see `build_generator`. A
            `FoldedGenerator` is returned as it is.

    Returns:
        FoldedGenerator.

    Raises:
        ValueError: It is no such model, or other layers than conditional batch normalizations use the label.
    """
    if isinstance(generator, FoldedGenerator):
        return generator
    _check_generator(generator)
    latent, *labels = [
        keras.Input(batch_shape=tensor.shape, dtype=dtype, name=name)
        for tensor, dtype, name in zip(generator.inputs, ("float32", "int32"), ("latent", "label"))
    ]
    conditional = [layer for layer in generator.layers if isinstance(layer, ConditionalBatchNormalization)]
    if bool(labels) != bool(conditional):
        raise ValueError(
            "A generator with labels must use them in `ConditionalBatchNormalization`, and one without has none. "
            f"Received: inputs {[tensor.name for tensor in generator.inputs]}, {len(conditional)} such layers."
        )
    layers = _FoldedLayers()
    embedding = row = None
    if labels:
        embedding, row = layers.embed_classes(conditional, labels[0])
    copy = keras.models.clone_model(
        generator,
        input_tensors=[latent, *labels] if labels else latent,
        clone_function=layers.replacement,
        call_function=lambda replacement, *args, **kwargs: replacement(*args),
    )
    image = copy.output
    body = keras.Model([latent, row] if labels else latent, {"image": image, **layers.scores}, name="body")
    model = keras.Model(copy.input, image, name=generator.name)
    return FoldedGenerator(model, body, embedding.embeddings if labels else None)


def _check_generator(generator):
    try:
        inputs, output = generator.inputs, generator.output
        valid = len(inputs) in (1, 2) and isinstance(generator.input, (list, tuple)) == (len(inputs) == 2)
        valid = valid and len(inputs[0].shape) == 2 and len(output.shape) == 4
    except AttributeError:
        valid = False
    if not valid:
        raise ValueError(
            "The generator must be a functional keras.Model, [latent (B, D), label (B,)] or latent -> image. "
            f"Received: {generator!r}."
        )


class _FoldedLayers:
    """Replaces each layer while `clone_model` builds the folded graph; collects attention maps by layer in `scores`."""

    def __init__(self):
        self.scores = {}
        self._scale_and_offset = {}  # KerasTensors by the id of a conditional normalization

    def embed_classes(self, layers, label):
        """Makes one table for all conditional normalizations: (its Embedding, the rows (B, R) of the labels)."""
        tables = [table for layer in layers for table in _class_affine(layer)]
        widths = [table.shape[1] for table in tables]
        embedding = keras.layers.Embedding(len(tables[0]), sum(widths), dtype="float32", name="class_rows")
        row = embedding(move_negative_out_of_range(label, len(tables[0])))
        embedding.set_weights([np.concatenate(tables, axis=1)])
        flat = keras.layers.Reshape((1, 1, sum(widths)), dtype="float32", name="class_row")(row)
        pieces = ops.split(flat, [int(end) for end in np.cumsum(widths)[:-1]], axis=-1)
        self._scale_and_offset = {id(layer): pieces[2 * i : 2 * i + 2] for i, layer in enumerate(layers)}
        return embedding, row

    def replacement(self, layer):
        """The function of KerasTensors that stands for a layer or operation."""
        if isinstance(layer, ConditionalBatchNormalization):
            scale, offset = self._scale_and_offset[id(layer)]
            return lambda inputs: _affine(inputs[0], scale, offset, layer.name)
        if isinstance(layer, SelfAttention):
            return lambda x: self._attention(layer, x)
        if isinstance(layer, keras.layers.BatchNormalization):
            return lambda x: _rescaled(x, layer)
        return upsample if isinstance(layer, NearestUpsampling) else _copy(layer)

    def _attention(self, layer, x):
        _, height, width, _ = x.shape
        name, pool = layer.name, layer.pool_size

        def positions(kind, pooled):
            y = _copy(getattr(layer, kind), f"{name}_{kind}")(x)
            if pooled and pool > 1:
                options = dict(pool_size=pool, data_format="channels_last")
                y = _layer(keras.layers.MaxPooling2D, f"{name}_{kind}_pool", **options)(y)
            return _layer(keras.layers.Reshape, f"{name}_{kind}_positions", target_shape=(-1, y.shape[-1]))(y)

        query, key, value = positions("query", False), positions("key", True), positions("value", True)
        logits = _layer(keras.layers.Dot, f"{name}_logits", axes=(2, 2))([query, key])
        scores = _layer(keras.layers.Softmax, f"{name}_scores")(logits)
        mixed = _layer(keras.layers.Dot, f"{name}_mixed", axes=(2, 1))([scores, value])
        mixed = _layer(keras.layers.Reshape, f"{name}_map", target_shape=(height, width, value.shape[-1]))(mixed)
        gamma = np.float32(keras.ops.convert_to_numpy(layer.gamma))
        if layer.output_projection:
            mixed = _copy(layer.projection, f"{name}_projection", factor=gamma)(mixed)
        else:
            mixed = _layer(keras.layers.Rescaling, f"{name}_gamma", scale=float(gamma))(mixed)
        self.scores[name] = scores
        return _layer(keras.layers.Add, f"{name}_add")([x, mixed])


def _layer(cls, name, **arguments):
    return cls(dtype="float32", name=name, **arguments)


def _affine(x, scale, offset, name):
    if len(x.shape) != 4:
        raise ValueError(f"`ConditionalBatchNormalization` must apply to feature maps. Received: {name}, {x.shape}.")
    scaled = _layer(keras.layers.Multiply, f"{name}_scale")([x, scale])
    return _layer(keras.layers.Add, f"{name}_offset")([scaled, offset])


def _rescaled(x, layer):
    """Batch normalization at inference."""
    # (1, 1, C) for a map: where the global data format is channels first, Keras takes (C,) for rows.
    shape = (*[1] * (len(x.shape) - 2), -1)
    scale, offset = (values.reshape(shape).tolist() for values in _channel_affine(layer))
    return _layer(keras.layers.Rescaling, layer.name, scale=scale, offset=offset)(x)


def _copy(layer, name=None, factor=1):
    """Copies a layer or operation, in float32, with all its weights times a factor."""
    if isinstance(layer, SpectralNormalization):
        layer = layer.fold()
    if not isinstance(layer, keras.layers.Layer):
        return type(layer).from_config(layer.get_config())
    config = {**layer.get_config(), "dtype": "float32", "name": name or layer.name}
    resampling = config.pop("resampling", None)
    copy = _STOCK.get(type(layer), type(layer)).from_config(config)
    weights = [np.float32(value) * factor for value in layer.get_weights()]

    def call(*args):
        outputs = copy(*map(upsample, args)) if resampling == "up" else copy(*args)
        copy.set_weights(weights)
        return average_pool(outputs) if resampling == "down" else outputs

    return call


def _channel_affine(layer):
    """Scale and offset (C,) of batch normalization at inference: float32, computed in float64."""
    if layer.axis not in (-1, 3):
        raise ValueError(f"Batch normalization must be over the last axis. Received: {layer.name}, axis={layer.axis}.")
    variance, mean = (np.float64(ops.convert_to_numpy(x)) for x in (layer.moving_variance, layer.moving_mean))
    scale = 1 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * np.float64(ops.convert_to_numpy(layer.gamma))
    offset = -mean * scale
    if layer.center:
        offset = offset + np.float64(ops.convert_to_numpy(layer.beta))
    return np.float32(scale), np.float32(offset)


def _class_affine(layer):
    """Scales and offsets (K, C) of conditional batch normalization at inference."""
    scale, offset = (np.float64(x) for x in _channel_affine(layer.normalization))
    gamma, beta = (np.float64(ops.convert_to_numpy(x)) for x in (layer.gamma, layer.beta))
    return np.float32(gamma * scale), np.float32(gamma * offset + beta)
