"""Networks that turn images into features: Inception of 2015, or any Keras model or SavedModel by path."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf

from sagan_tf.errors import UserError, format_image_size, summarize
from sagan_tf.evaluation.defaults import PIXEL_RANGE, PIXEL_RANGES
from sagan_tf.evaluation.inception import INPUT_SIZE, inception_outputs, load_inception, to_inception_input
from sagan_tf.files.hashing import sha256
from sagan_tf.files.saved_models import FEATURE_OPERATIONS, checked_graph, regular_files
from sagan_tf.files.untrusted import bounded_keras_file, check_graph_maps

_ANY_SIZE = (32, 32)  # px: tried with a network that takes images of any size
# By how much the sum of rounded class probabilities may differ from 1: four times the dtype's epsilon; others 0.001.
_SUM_TOLERANCES = {"bfloat16": 2**-5, "float16": 2**-8}


@dataclass(frozen=True)
class FeatureNetwork:
    """A network whose features images are compared by.

    Symbols: B batch, H, W height and width of an image in px, C image channels, 1 or 3, D features, K classes.

    Args:
        name: str, shown with the metrics.
        sha256: str, of its file or folder.
        preprocessing: str, a description of how images become its input.
        dimensions: int, D.
        num_classes: int, K; None without class probabilities.
        is_inception: bool. Whether the metrics may be called FID, KID and Inception Score.
        compute: Graph function, uint8 (B, H, W, C) -> (features (B, D) float32, probabilities (B, K) or None).
    """

    name: str
    sha256: str
    preprocessing: str
    dimensions: int
    num_classes: int | None
    is_inception: bool
    compute: Callable

    def __call__(self, images):
        """Computes features and class probabilities of uint8 images, tensors in and out."""
        return self.compute(images)

    def about(self):
        """What a result records of the network: dict of JSON values."""
        names = ("name", "sha256", "preprocessing", "dimensions", "num_classes", "is_inception")
        return {name: getattr(self, name) for name in names}


def open_features(features=None, inception=None, pixel_range=PIXEL_RANGE, inception_sha256=None):
    """Opens the `FeatureNetwork` of a user, or Inception.

    Args:
        features: `PATH` or `PATH:NAME` of a Keras file and a layer, or of a SavedModel and one of its outputs. None:
            Inception.
        inception: Path of TF-GAN's Inception; None: from the cache, or downloaded into it.
        pixel_range: Key of `PIXEL_RANGES`, the pixel range that `features` expects.
        inception_sha256: str, the hash that Inception must have, or None.

    Returns:
        FeatureNetwork.

    Raises:
        UserError: There is no such file, layer or output, the file cannot be loaded or is refused, or it does not turn
            one batch of images into one row of features each; also as `load_inception`.
    """
    if features is None:
        return _open_inception(inception, inception_sha256)
    path, _, part = features.rpartition(":") if not os.path.exists(features) else (features, "", "")
    if not os.path.exists(path):
        raise UserError(f"--features: there is no file or folder `{path or features}`.")
    if os.path.isdir(path):
        return _open_saved_model(Path(path), part, pixel_range)
    return _open_keras(Path(path), part, pixel_range)


def _open_inception(path, expected_hash):
    module, actual_hash = load_inception(path, expected_hash)

    def compute(images):
        return inception_outputs(module, to_inception_input(images))

    return FeatureNetwork(
        name="Inception 2015, pool_3",
        sha256=actual_hash,
        preprocessing=f"uint8, resized to {INPUT_SIZE} px by TensorFlow 1's bilinear rule, (x - 128) / 128",
        is_inception=True,
        compute=compute,
        **_sizes(compute, (INPUT_SIZE, INPUT_SIZE)),
    )


def _open_keras(path, layer_name, pixel_range):
    try:
        with bounded_keras_file(path):
            model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Damaged bytes make zip, JSON, HDF5 and Keras raise anything
        raise UserError(f"--features: {path}: not a readable Keras model: {summarize(error)}") from None
    layers = {layer.name: layer for layer in model.layers}
    if layer_name and layer_name not in layers:
        raise UserError(f"--features: {path} has no layer `{layer_name}`; it has {_list(layers)}.")
    try:
        # By default the features are the input of the last layer, the classifier.
        chosen = layers[layer_name].output if layer_name else model.layers[-1].input
    except (AttributeError, LookupError):
        chosen = None  # of a model that has not been built, or without layers
    is_tensor = isinstance(chosen, keras.KerasTensor)
    if not is_tensor or len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise UserError(f"--features: {path}: must take one batch of images and have one feature tensor.")
    model_with_features = keras.Model(model.inputs[0], [chosen, model.outputs[0]])
    size, channels = _input_size(model.inputs[0].shape), model.inputs[0].shape[3]
    dtype = _input_dtype(path, model.inputs[0].dtype, pixel_range)

    def compute(images):
        features, outputs = model_with_features(_prepare(images, size, channels, pixel_range, dtype), training=False)
        return _pooled(features), _probabilities(outputs)

    name = f"{path.name}:{layer_name or 'input of ' + model.layers[-1].name}"
    return _user_network(name, path, compute, size, channels, pixel_range)


def _open_saved_model(path, output, pixel_range):
    try:
        checked_graph(path, FEATURE_OPERATIONS)
        model = tf.saved_model.load(str(path))  # whose variables live as long as it does
        signature = model.signatures["serving_default"]
    except Exception as error:  # The loader raises anything for a folder of other files.
        raise UserError(f"--features: {path}: not a SavedModel with a `serving_default`: {summarize(error)}") from None
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if [spec.shape.rank for spec in inputs.values()] != [4]:
        shapes = ", ".join(f"{name} {spec.shape}" for name, spec in inputs.items()) or "nothing"
        raise UserError(f"--features: {path} must take images (B, H, W, C) and nothing else; it takes {shapes}.")
    ((input_name, spec),) = inputs.items()
    if output and output not in outputs:
        raise UserError(f"--features: {path} has no output `{output}`; it has {_list(outputs)}.")
    if not output and len(outputs) != 1:
        raise UserError(f"--features: {path} has several outputs; choose one as {path}:NAME from {_list(outputs)}.")
    output = output or next(iter(outputs))
    size, channels = _input_size(spec.shape), spec.shape[3]
    classes = next((name for name in ("logits", "probabilities") if name in outputs), None)
    dtype = _input_dtype(path, spec.dtype, pixel_range)

    def compute(images):
        outputs = signature(**{input_name: _prepare(images, size, channels, pixel_range, dtype)})
        probabilities = None if classes is None else _probabilities(outputs[classes])
        return _pooled(outputs[output]), probabilities

    compute.model = model
    return _user_network(f"{path.name}:{output}", path, compute, size, channels, pixel_range)


def _input_size(shape):
    """(height, width) of the images that a network takes; None if it takes any."""
    size = tuple(shape[1:3])
    return None if None in size else size


def _input_dtype(path, dtype, pixel_range):
    """The tf.DType of a network's input; raises UserError for whole numbers, unless these are the range."""
    dtype = tf.as_dtype(dtype)
    if not dtype.is_floating and pixel_range != "0,255":
        raise UserError(f"--features: {path}: takes whole numbers ({dtype.name}). Add --pixel_range 0,255.")
    return dtype


def _user_network(name, path, compute, size, channels, pixel_range):
    resizing = f"resized to {format_image_size(size)} px (bilinear, antialiased), " if size else ""
    gray = "gray, " if channels == 1 else ""
    return FeatureNetwork(
        name=name,
        sha256=sha256(path),
        preprocessing=f"uint8, {gray}{resizing}black and white at {pixel_range}",
        is_inception=False,
        compute=compute,
        **_sizes(_checked(compute, path, size or _ANY_SIZE), size or _ANY_SIZE),
    )


def _checked(compute, path, size):
    """Raises UserError if a network fails for images of this size, or has feature maps that fill the memory."""
    try:
        file_bytes = sum(size for _, size, _ in regular_files(path)) if path.is_dir() else path.stat().st_size
        images = tf.TensorSpec((1, *size, 3), tf.uint8)
        check_graph_maps(tf.function(compute).get_concrete_function(images), file_bytes)
    except Exception as error:  # The layers of a file may raise anything.
        raise UserError(f"--features: {path}: cannot compute features: {summarize(error)}") from None
    return compute


def _sizes(compute, size):
    """Runs one batch to find the numbers of features and classes."""
    features, probabilities = compute(tf.zeros((2, *size, 3), tf.uint8))
    if len(features.shape) != 2:
        raise UserError(f"--features: must give one row per image; the shape is {tuple(features.shape)}.")
    # A single output is not a distribution over classes.
    classes = None if probabilities is None or probabilities.shape[1] < 2 else int(probabilities.shape[1])
    return {"dimensions": int(features.shape[1]), "num_classes": classes}


def _prepare(images, size, channels, pixel_range, dtype):
    images = tf.cast(images, tf.float32)
    if channels == 1 and images.shape[-1] == 3:
        images = tf.image.rgb_to_grayscale(images)
    elif channels != 1 and images.shape[-1] == 1:
        images = tf.repeat(images, 3, axis=-1)
    if size and tuple(images.shape[1:3]) != size:
        images = tf.image.resize(images, size, method="bilinear", antialias=True)
    low, high = PIXEL_RANGES[pixel_range]
    images = images * ((high - low) / 255.0) + low
    return tf.cast(images if dtype.is_floating else tf.round(images), dtype)


def _pooled(features):
    """Averages feature maps over their positions."""
    return tf.reduce_mean(tf.cast(features, tf.float32), axis=list(range(1, len(features.shape) - 1)))


def _probabilities(outputs):
    """Class probabilities (B, K); outputs that do not sum to 1 are taken for logits. None for other shapes."""
    if len(outputs.shape) != 2:
        return None
    tolerance = _SUM_TOLERANCES.get(outputs.dtype.name, 1e-3)
    outputs = tf.cast(outputs, tf.float32)
    sums = tf.reduce_sum(outputs, axis=1, keepdims=True)
    is_one = tf.abs(sums - 1.0) < tolerance
    are_probabilities = tf.logical_and(tf.reduce_all(outputs >= 0.0), tf.reduce_all(is_one))
    return tf.cond(are_probabilities, lambda: outputs / sums, lambda: tf.nn.softmax(outputs))


def _list(names):
    names = list(names)
    return ", ".join(names[-12:]) if len(names) <= 12 else f"..., {', '.join(names[-12:])}"
