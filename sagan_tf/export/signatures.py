"""Signatures of an exported generator: functions that refuse bad requests inside the graph."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from sagan_tf.generation.latents import draw_latents, interpolate_latents, interpolate_rows
from sagan_tf.generation.pixels import to_png


@dataclass(frozen=True)
class Signature:
    """A function of a SavedModel.

    Args:
        name: str, the name under which it is served.
        function: Function from tensors, in the order of `inputs`, to a dict of tensors.
        inputs: tuple of tf.TensorSpecs, each with a batch axis of any size.
        example: dict, name of an input -> NumPy array of one row, for warm-up requests.
    """

    name: str
    function: Callable
    inputs: tuple
    example: dict


def make_signatures(folded):
    """Creates the signatures of a SavedModel.

    | name | inputs | outputs |
    |---|---|---|
    | `serving_default` | latent (B, D) float32, label (B,) int32 | image (B, H, W, C) float32 in [-1, 1] |
    | `sample` | seed (B,) int64, label, truncation (B,) float32 > 0 | image_bytes (B,), PNG files |
    | `interpolate` | start_seed, end_seed, start_label, end_label, fraction (B,) float32 in [0, 1], truncation |
        image_bytes |
    | `attention` | latent, label | image, and a map (B, N, M) under the name of each attention layer |

    Without classes there are no labels, without attention layers there is no `attention`. Rows do not influence each
    other. A label, fraction or truncation out of range, a latent that is not finite, and inputs that disagree on B end
    the request with `InvalidArgumentError`, on every device.

    Args:
        folded: `FoldedGenerator`.

    Returns:
        list of `Signature`.
    """
    endpoints = _Endpoints(folded)
    latent = {"latent": tf.TensorSpec([None, folded.latent_dim], tf.float32)}
    seed, start_seed, end_seed = ({name: _vector(tf.int64)} for name in ("seed", "start_seed", "end_seed"))
    labels = ("label", "start_label", "end_label")
    label, start_label, end_label = ({} if folded.num_classes is None else {name: _vector(tf.int32)} for name in labels)
    truncation, fraction = {"truncation": _vector(tf.float32)}, {"fraction": _vector(tf.float32)}
    ends = start_seed | end_seed | start_label | end_label
    signatures = [
        _signature("serving_default", endpoints.image, latent | label),
        _signature("sample", endpoints.sample, seed | label | truncation),
        _signature("interpolate", endpoints.interpolate, ends | fraction | truncation),
    ]
    if folded.attention_shapes:
        signatures.append(_signature("attention", endpoints.attention, latent | label))
    return signatures


def _vector(dtype):
    return tf.TensorSpec([None], dtype)


def _signature(name, endpoint, specs):
    def function(*tensors):
        return endpoint(_checked(dict(zip(specs, tensors)), specs))

    inputs = tuple(tf.TensorSpec(spec.shape, spec.dtype, name=key) for key, spec in specs.items())
    return Signature(name, function, inputs, {key: _example(key, spec) for key, spec in specs.items()})


def _example(name, spec):
    shape = (1, *spec.shape[1:])
    value = {"truncation": 1.0, "fraction": 0.5}.get(name, 0)
    return np.full(shape, value, spec.dtype.as_numpy_dtype)


def _checked(tensors, specs):
    """Returns the inputs behind checks of shapes and finiteness: a server does not check the declared shapes."""
    # Without static shapes: the graph optimizer trusts declared shapes and would remove the checks.
    unknown = {name: tf.compat.v1.placeholder_with_default(tensor, None) for name, tensor in tensors.items()}
    with tf.control_dependencies(_shape_checks(unknown, specs)):
        unknown = {name: tf.identity(tensor) for name, tensor in unknown.items()}
        checks = [
            _assert(tf.reduce_all(tf.math.is_finite(tensor)), f"`{name}` must be finite. Received:", tensor)
            for name, tensor in unknown.items()
            if tensor.dtype.is_floating
        ]
    with tf.control_dependencies(checks or list(unknown.values())):
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}


def _shape_checks(tensors, specs):
    batch = tf.reshape(tf.shape(next(iter(tensors.values()))), [-1])[:1]
    checks = []
    for name, tensor in tensors.items():
        shape, width = tf.shape(tensor), list(specs[name].shape[1:])
        expected = tf.concat([batch, tf.constant(width, tf.int32, [len(width)])], axis=0)
        same_rank = tf.equal(tf.size(shape), 1 + len(width))
        # Shapes are compared up to the shorter one; `same_rank` covers the rest.
        length = tf.minimum(tf.size(shape), tf.size(expected))
        same = same_rank & tf.reduce_all(tf.equal(shape[:length], expected[:length])) & tf.reduce_all(batch > 0)
        message = f"`{name}` must have the shape {_shape_text(specs[name])}, B >= 1 the same for all inputs."
        checks.append(_assert(same, f"{message} Received the shape:", shape))
    return checks


def _shape_text(spec):
    return "(" + ", ".join(["B"] + [str(size) for size in spec.shape[1:]]) + ("," if len(spec.shape) == 1 else "") + ")"


def _assert(condition, message, value):
    return tf.debugging.Assert(condition, [message, value], summarize=8)


class _Endpoints:
    """The functions behind the signatures, of checked tensors by name. The network is traced once."""

    def __init__(self, folded):
        self.latent_dim, self.num_classes = folded.latent_dim, folded.num_classes
        self._class_rows = folded.class_rows
        latent = tf.TensorSpec([None, folded.latent_dim], tf.float32)
        specs = [latent] if folded.num_classes is None else [latent, tf.TensorSpec([None, folded.row_size], tf.float32)]
        body = folded.body

        def network(*inputs):
            return body(list(inputs) if len(inputs) > 1 else inputs[0], training=False)

        self._network = tf.function(network, input_signature=specs, autograph=False)

    def image(self, inputs):
        return {"image": self.attention(inputs)["image"]}

    def attention(self, inputs):
        return self._generate(inputs["latent"], self._class_row(inputs, "label"))

    def sample(self, inputs):
        truncation = self._truncation(inputs)
        latent = draw_latents(inputs["seed"], truncation, self.latent_dim)
        return {"image_bytes": to_png(self._generate(latent, self._class_row(inputs, "label"))["image"])}

    def interpolate(self, inputs):
        truncation, fraction = self._truncation(inputs), inputs["fraction"]
        in_range = tf.reduce_all((fraction >= 0.0) & (fraction <= 1.0))
        with tf.control_dependencies([_assert(in_range, "`fraction` must be in [0, 1]. Received:", fraction)]):
            fraction = tf.identity(fraction)
        start, end = (draw_latents(inputs[name], truncation, self.latent_dim) for name in ("start_seed", "end_seed"))
        row = None
        if self.num_classes is not None:
            rows = self._class_row(inputs, "start_label"), self._class_row(inputs, "end_label")
            row = interpolate_rows(*rows, fraction)
        image = self._generate(interpolate_latents(start, end, fraction), row)["image"]
        return {"image_bytes": to_png(image)}

    def _generate(self, latent, row):
        return self._network(latent) if row is None else self._network(latent, row)

    def _truncation(self, inputs):
        truncation = inputs["truncation"]
        check = _assert(tf.reduce_all(truncation > 0.0), "`truncation` must be above 0. Received:", truncation)
        with tf.control_dependencies([check]):
            return tf.identity(truncation)

    def _class_row(self, inputs, name):
        if self.num_classes is None:
            return None
        label = inputs[name]
        in_range = tf.reduce_all((label >= 0) & (label < self.num_classes))
        check = _assert(in_range, f"`{name}` must be in 0 .. {self.num_classes - 1}. Received:", label)
        # Keras' lookup takes -1 for the last class, and a GPU's returns zeros for a label out of range.
        with tf.control_dependencies([check]):
            return tf.gather(self._class_rows.value, tf.identity(label))
