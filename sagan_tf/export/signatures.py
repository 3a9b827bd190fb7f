"""What a served generator can be asked: named functions that refuse bad requests inside the graph."""

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
        name: Under which it is served.
        function: Tensors, in the order of `inputs` -> dict of tensors.
        inputs: tf.TensorSpecs, all with a batch axis of any size.
        example: dict, name of an input -> NumPy array of one row, for warming up.
    """

    name: str
    function: Callable
    inputs: tuple
    example: dict


def make_signatures(folded):
    """Makes the functions that a SavedModel offers.

    | name | inputs | outputs |
    |---|---|---|
    | `serving_default` | latent (B, D) float32, label (B,) int32 | image (B, S, S, C) float32 in [-1, 1] |
    | `sample` | seed (B,) int64, label, truncation (B,) float32 > 0 | image_bytes (B,) PNG files |
    | `interpolate` | start_seed, end_seed, start_label, end_label, fraction (B,) float32 in [0, 1], truncation |
        image_bytes |
    | `attention` | latent, label | image, and a map (B, N, M) for every attention layer by its name |

    Without classes no labels; without attention layers no `attention`. Rows never influence one another. A label out of
    range, a fraction or truncation out of range, a latent that is not finite and inputs that disagree on B end the
    request with `InvalidArgumentError`, on every device.

    Args:
        folded: `FoldedGenerator`.

    Returns:
        list of Signatures.
    """
    requests = _Requests(folded)
    latent = {"latent": tf.TensorSpec([None, folded.latent_dim], tf.float32)}
    seed, start_seed, end_seed = ({name: _row(tf.int64)} for name in ("seed", "start_seed", "end_seed"))
    label, start_label, end_label = (
        {} if folded.num_classes is None else {name: _row(tf.int32)} for name in ("label", "start_label", "end_label")
    )
    truncation, fraction = {"truncation": _row(tf.float32)}, {"fraction": _row(tf.float32)}
    ends = start_seed | end_seed | start_label | end_label
    signatures = [
        _signature("serving_default", requests.image, latent | label),
        _signature("sample", requests.sample, seed | label | truncation),
        _signature("interpolate", requests.interpolate, ends | fraction | truncation),
    ]
    if folded.attention_shapes:
        signatures.append(_signature("attention", requests.attention, latent | label))
    return signatures


def _row(dtype):
    return tf.TensorSpec([None], dtype)


def _signature(name, method, specs):
    def function(*tensors):
        return method(_checked(dict(zip(specs, tensors)), specs))

    inputs = tuple(tf.TensorSpec(spec.shape, spec.dtype, name=key) for key, spec in specs.items())
    return Signature(name, function, inputs, {key: _example(key, spec) for key, spec in specs.items()})


def _example(name, spec):
    shape = (1, *spec.shape[1:])
    value = {"truncation": 1.0, "fraction": 0.5}.get(name, 0)
    return np.full(shape, value, spec.dtype.as_numpy_dtype)


def _checked(tensors, specs):
    """The inputs behind checks that run before anything reads them.

    A server feeds what it was sent without a look at the declared shapes, so that these are checked here too.
    """
    # Of undeclared shape: what follows from a declaration is computed when the graph is optimised, and not checked.
    opaque = {name: tf.compat.v1.placeholder_with_default(tensor, None) for name, tensor in tensors.items()}
    with tf.control_dependencies(_shape_checks(opaque, specs)):
        opaque = {name: tf.identity(tensor) for name, tensor in opaque.items()}
        checks = [
            _check(tf.reduce_all(tf.math.is_finite(tensor)), f"`{name}` must be finite. Received:", tensor)
            for name, tensor in opaque.items()
            if tensor.dtype.is_floating
        ]
    with tf.control_dependencies(checks or list(opaque.values())):
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}


def _shape_checks(tensors, specs):
    rows = tf.reshape(tf.shape(next(iter(tensors.values()))), [-1])[:1]
    checks = []
    for name, tensor in tensors.items():
        shape, width = tf.shape(tensor), list(specs[name].shape[1:])
        wanted = tf.concat([rows, tf.constant(width, tf.int32, [len(width)])], axis=0)
        same_rank = tf.equal(tf.size(shape), 1 + len(width))
        # Sizes beyond the shorter shape are not compared; the rank has spoken then.
        length = tf.minimum(tf.size(shape), tf.size(wanted))
        same = same_rank & tf.reduce_all(tf.equal(shape[:length], wanted[:length])) & tf.reduce_all(rows > 0)
        words = f"`{name}` must have the shape {_shape_in_words(specs[name])}, B >= 1 the same for all inputs."
        checks.append(_check(same, f"{words} Received the shape:", shape))
    return checks


def _shape_in_words(spec):
    return "(" + ", ".join(["B"] + [str(size) for size in spec.shape[1:]]) + ("," if len(spec.shape) == 1 else "") + ")"


def _check(condition, message, value):
    return tf.debugging.Assert(condition, [message, value], summarize=8)


class _Requests:
    """The functions behind the signatures; each takes checked tensors by name. The network is traced once."""

    def __init__(self, folded):
        self.latent_dim, self.num_classes = folded.latent_dim, folded.num_classes
        self._rows = folded.class_rows
        latent = tf.TensorSpec([None, folded.latent_dim], tf.float32)
        specs = [latent] if folded.num_classes is None else [latent, tf.TensorSpec([None, folded.row_size], tf.float32)]
        body = folded.body

        def network(*inputs):
            return body(list(inputs) if len(inputs) > 1 else inputs[0], training=False)

        self._network = tf.function(network, input_signature=specs, autograph=False)

    def image(self, given):
        return {"image": self.attention(given)["image"]}

    def attention(self, given):
        return self._paint(given["latent"], self._row(given, "label"))

    def sample(self, given):
        truncation = self._truncation(given)
        latent = draw_latents(given["seed"], truncation, self.latent_dim)
        return {"image_bytes": to_png(self._paint(latent, self._row(given, "label"))["image"])}

    def interpolate(self, given):
        truncation, fraction = self._truncation(given), given["fraction"]
        inside = tf.reduce_all((fraction >= 0.0) & (fraction <= 1.0))
        with tf.control_dependencies([_check(inside, "`fraction` must be in [0, 1]. Received:", fraction)]):
            fraction = tf.identity(fraction)
        start, end = (draw_latents(given[name], truncation, self.latent_dim) for name in ("start_seed", "end_seed"))
        row = None
        if self.num_classes is not None:
            row = interpolate_rows(self._row(given, "start_label"), self._row(given, "end_label"), fraction)
        image = self._paint(interpolate_latents(start, end, fraction), row)["image"]
        return {"image_bytes": to_png(image)}

    def _paint(self, latent, row):
        return self._network(latent) if row is None else self._network(latent, row)

    def _truncation(self, given):
        truncation = given["truncation"]
        check = _check(tf.reduce_all(truncation > 0.0), "`truncation` must be above 0. Received:", truncation)
        with tf.control_dependencies([check]):
            return tf.identity(truncation)

    def _row(self, given, name):
        if self.num_classes is None:
            return None
        label = given[name]
        inside = tf.reduce_all((label >= 0) & (label < self.num_classes))
        check = _check(inside, f"`{name}` must be in 0 .. {self.num_classes - 1}. Received:", label)
        # Not by Keras' own lookup, which takes -1 for the last class; and a GPU's gives zeros where there is no row.
        with tf.control_dependencies([check]):
            return tf.gather(self._rows.value, tf.identity(label))
