"""Reads a generator from a `.keras` file that is not trusted: runs no code of the file, believes no claimed size."""

import json
import math
import zipfile

import keras
import numpy as np
from keras import ops

from sagan_tf.files.untrusted import bounded_keras_file, check_map
from sagan_tf.layers import SelfAttention, spectral_normalizations
from sagan_tf.networks.architectures import has_architecture

# All that a generator of `sagan_tf.networks` or `conversion.heykeetae` consists of, by package. A file could name other
# Keras classes, and some of these read further files.
CLASSES = {
    "keras": {"Activation", "Conv2DTranspose", "Dense", "DTypePolicy", "Functional", "InputLayer", "Reshape"},
    "sagan_tf": {
        "BatchNormalization", "ConditionalBatchNormalization", "Conv2D", "NearestUpsampling", "ReLU", "ResidualSum",
        "SelfAttention", "SpectralNormalization",
    },
}  # fmt: skip
_MAX_SCORES = 1 << 28  # per attention layer and image: 128 px maps without pooled keys


def read_generator(path):
    """Reads a generator of `build_generator` from a `.keras` file that is not trusted.

    Args:
        path: Path of the file.

    Returns:
        keras.Model, not compiled.

    Raises:
        Exception: Of any type: the file is damaged, holds no generator, or claims more memory than its size justifies.
    """
    with bounded_keras_file(path):
        with zipfile.ZipFile(path) as archive:
            _check_classes(json.loads(archive.read("config.json")))
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    _check_model(model)
    return model


def _check_classes(config):
    """Refuses classes that no generator has, before Keras looks them up."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            module, name = value.get("module"), value.get("class_name")
            if name is not None and not _is_known(module, name):
                raise ValueError(f"a generator has no {module}.{name}.")
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _is_known(module, name):
    if module is None:
        return name == "__keras_tensor__"
    package = str(module).partition(".")[0]
    return module == "keras.initializers" or name in CLASSES.get(package, ())


def _check_model(model):
    latent, *labels = model.inputs
    batch, height, width, channels = model.output.shape
    valid = batch is None and None not in (height, width) and has_architecture((height, width)) and 1 <= channels
    valid = valid and len(latent.shape) == 2 and len(labels) <= 1 and all(len(label.shape) == 1 for label in labels)
    if not valid:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in model.inputs)
        raise ValueError(f"it is not a generator: its output is {tuple(model.output.shape)}, its inputs are {shapes}.")
    for layer in model.layers:
        _check_size(layer)
    for weight in model.weights:
        if not np.isfinite(ops.convert_to_numpy(ops.cast(weight, "float32"))).all():
            raise ValueError(f"{weight.path} is not finite.")
    for layer in spectral_normalizations(model).values():
        layer.fold()  # Fails if the kernel does not have the shape that the file claims.
    # Some options fail only when a layer is called.
    inputs = [np.zeros([1, *tensor.shape[1:]], tensor.dtype) for tensor in model.inputs]
    if not np.isfinite(ops.convert_to_numpy(model(inputs if labels else inputs[0], training=False))).all():
        raise ValueError("its images are not finite.")


def _check_size(layer):
    if isinstance(layer, keras.Model):  # its layers could be of any size
        raise ValueError(f"a generator has no network in it, such as {layer.name}.")
    shapes = [tensor.shape for tensor in keras.tree.flatten(layer.output)]
    if any(None in shape[1:] for shape in shapes):
        raise ValueError(f"its layer {layer.name} has an output of unknown size.")
    for shape in shapes:
        check_map(f"its layer {layer.name}", shape)
    if isinstance(layer, SelfAttention):
        positions = math.prod(layer.output.shape[1:3])
        if positions * positions // layer.pool_size**2 > _MAX_SCORES:
            raise ValueError(f"its layer {layer.name} has more than {_MAX_SCORES} attention scores per image.")
