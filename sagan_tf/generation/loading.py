"""A generator from a `.keras` file that anybody may have written: no code of it is run, no memory taken on its word."""

import json
import math
import os
import zipfile

import h5py
import keras
import numpy as np
from keras import ops

from sagan_tf.files.untrusted import bounded_variables, check_archive, check_claim
from sagan_tf.layers import SelfAttention, spectral_normalizations
from sagan_tf.networks.architectures import GENERATOR_MULTIPLIERS

# All that a generator of `sagan_tf.networks` is made of. Keras has more that can be named in such a file, among it
# layers that read other files.
_KERAS = {
    "Activation", "Add", "BatchNormalization", "Cast", "Conv2D", "Copy", "Dense", "DTypePolicy", "Functional",
    "InputLayer", "ReLU", "Reshape", "Resize",
}  # fmt: skip
_OURS = {
    "BatchNormalization", "ConditionalBatchNormalization", "Conv2D", "NearestUpsampling", "ReLU",
    "ResidualSum", "SelfAttention", "SpectralNormalization",
}  # fmt: skip
_LARGEST_MAP = 1 << 26  # values of a feature map of one picture: 16 times the widest of the paper's base width
_LARGEST_SCORES = 1 << 28  # of an attention layer, for one picture: 128 px maps, keys not pooled
_SEVERAL = 4  # times the bytes of the weights, for other dtypes and Keras' own variables


def read_generator(path):
    """Reads a generator.

    Args:
        path: Of the `.keras` file.

    Returns:
        keras.Model as of `build_generator`.

    Raises:
        Exception: It cannot be read, is none, or claims what the size of the file does not bear out. Damaged bytes make
            zip, JSON, HDF5 and Keras raise anything.
    """
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        _check_classes(json.loads(archive.read("config.json")))
        with archive.open("model.weights.h5") as file, h5py.File(file) as weights:
            check_claim(path, _claimed_bytes(weights))
    with bounded_variables(_SEVERAL * os.path.getsize(path) + (1 << 20)):
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    _check_model(model)
    return model


def _check_classes(config):
    """Refuses whatever a generator has no use for, before Keras looks it up."""
    waiting = [config]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            module, name = one.get("module"), one.get("class_name")
            if name is not None and not _is_known(module, name):
                raise ValueError(f"a generator has no {module}.{name}.")
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _is_known(module, name):
    if module is None:
        return name == "__keras_tensor__"
    first = str(module).partition(".")[0]
    return module == "keras.initializers" or (first == "keras" and name in _KERAS) or (
        first == "sagan_tf" and name in _OURS
    )


def _claimed_bytes(weights):
    sizes = []
    weights.visititems(lambda _, one: sizes.append(one.size * one.dtype.itemsize) if hasattr(one, "dtype") else None)
    return sum(sizes)


def _check_model(model):
    latent, *labels = model.inputs
    batch, height, width, channels = model.output.shape
    good = batch is None and height == width and height in GENERATOR_MULTIPLIERS and 1 <= channels
    good = good and len(latent.shape) == 2 and len(labels) <= 1 and all(len(label.shape) == 1 for label in labels)
    if not good:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in model.inputs)
        raise ValueError(f"it makes {tuple(model.output.shape)} of {shapes}, which is no generator.")
    for layer in model.layers:
        _check_size(layer)
    for weight in model.weights:
        if not np.isfinite(ops.convert_to_numpy(ops.cast(weight, "float32"))).all():
            raise ValueError(f"{weight.path} is not finite.")
    for layer in spectral_normalizations(model).values():
        layer.fold()  # by the shape that the file says it was built for
    # A picture tells what no look at the config does: options that a layer refuses when it is called, or cannot bear.
    inputs = [np.zeros([1, *tensor.shape[1:]], tensor.dtype) for tensor in model.inputs]
    if not np.isfinite(ops.convert_to_numpy(model(inputs if labels else inputs[0], training=False))).all():
        raise ValueError("its pictures are not finite.")


def _check_size(layer):
    shapes = [tensor.shape for tensor in keras.tree.flatten(layer.output)]
    if any(None in shape[1:] for shape in shapes):
        raise ValueError(f"its layer {layer.name} does not say how large its output is.")
    values = max(math.prod(filter(None, shape)) for shape in shapes)
    scores = 0
    if isinstance(layer, SelfAttention):
        positions = math.prod(layer.output.shape[1:3])
        scores = positions * positions // layer.pool_size**2
    if values > _LARGEST_MAP or scores > _LARGEST_SCORES:
        raise ValueError(f"its layer {layer.name} is larger than that of any generator here.")
