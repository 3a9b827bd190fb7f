"""Export as TFLite files, for phones, browsers and small machines; the caller draws the latents."""

import contextlib
import dataclasses
import importlib.util
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from sagan_tf.errors import install_hint
from sagan_tf.files.atomic import write_bytes
from sagan_tf.generation.folding import FoldedGenerator, fold_generator
from sagan_tf.generation.latents import random_batches
from sagan_tf.utils.startup import without_log_lines

VARIANTS = ("float32", "float16", "dynamic_int8", "int8")
CALIBRATION_IMAGES = 256
_CALIBRATION_BATCH = 16  # images, whose feature maps are in memory at the same time


def export_tflite(
    generator: keras.Model | FoldedGenerator,
    directory: str | Path,
    *,
    variants: Sequence[str] = VARIANTS,
    batch: int | None = None,
    seed: int = 0,
) -> dict[str, Path]:
    """Writes a generator as TFLite files of several precisions, with built-in operations only (no Flex).

    Each file has the signature `serving_default`: latent (B, D) float32, label (B,) int32 -> image (B, H, W, C) float32
    in [-1, 1]. With attention layers it has `attention`, which also returns a map (B, N, M) under the name of each
    layer. Without classes there is no label. A label out of range, -1 included, makes the interpreter fail. The
    variants, in the order of their error:

    | variant | weights | arithmetic |
    |---|---|---|
    | `float32` | float32 | float32 |
    | `float16` | float16 | float32 |
    | `dynamic_int8` | int8 per channel | int8, ranges of the current image; class tables and sums float32 |
    | `int8` | int8 per channel | int8, ranges measured on `CALIBRATION_IMAGES` images; attention float32 |

    The int8 variants need `litert-quantizer` (the extra `tflite`); without it they are omitted, with a line on stdout.

    Args:
        generator: `FoldedGenerator`, or keras.Model [latent, label] or latent -> image, which is folded.
        directory: Folder of the files `generator_VARIANT.tflite`. It is created.
        variants: Names from `VARIANTS`.
        batch: int, a fixed batch size B, which some runtimes need; None: any size, with `resize_tensor_input`.
        seed: int, for the latents that calibrate `int8`.

    Returns:
        dict, variant -> pathlib.Path.

    Raises:
        ValueError: The generator cannot be folded, or a variant is unknown.
    """
    unknown = [variant for variant in variants if variant not in VARIANTS]
    if unknown or not variants:
        raise ValueError(f"`variants` must be among {VARIANTS}. Received: {variants=}.")
    folded = fold_generator(generator)
    variants = _available(variants)
    with tempfile.TemporaryDirectory() as folder:
        _write_plain_saved_model(folded, folder, batch)
        float32 = _converter(folder).convert()
        convert = {
            "float32": lambda: float32,
            "float16": lambda: _float16(folder),
            "dynamic_int8": lambda: _dynamic_int8(float32),
            "int8": lambda: _int8(float32, folded.attention_shapes, _calibration_batches(folded, batch, seed)),
        }
        paths = {variant: Path(directory) / f"generator_{variant}.tflite" for variant in variants}
        for variant, path in paths.items():
            write_bytes(path, convert[variant]())
    return paths


def _available(variants):
    if importlib.util.find_spec("litert_quantizer"):
        return variants
    omitted = [variant for variant in variants if "int8" in variant]
    if omitted:
        print(f"No {' and no '.join(omitted)} of TFLite: a package is not installed. {install_hint('tflite')}")
    return [variant for variant in variants if variant not in omitted]


def _write_plain_saved_model(folded, folder, batch):
    """Writes the network without the checks of `signatures`, for which TFLite has no operations."""
    body = keras.models.clone_model(folded.body, clone_function=_with_known_shape)
    body.set_weights(folded.body.get_weights())
    folded = dataclasses.replace(folded, body=body)
    specs = [tf.TensorSpec([batch, folded.latent_dim], tf.float32, name="latent")]
    if folded.num_classes is not None:
        specs.append(tf.TensorSpec([batch], tf.int32, name="label"))
    network = tf.function(folded.generate, input_signature=specs, autograph=False)
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serving_default", lambda *x: {"image": network(*x)["image"]}, input_signature=specs)
    if folded.attention_shapes:
        archive.add_endpoint("attention", lambda *x: network(*x), input_signature=specs)
    archive.write_out(folder, verbose=False)


def _with_known_shape(layer):
    return (_Reshape if isinstance(layer, keras.layers.Reshape) else type(layer)).from_config(layer.get_config())


class _Reshape(keras.layers.Reshape):
    """Reshapes to constants, with -1 for the batch size.

    Keras computes the shape in the graph, so that LiteRT learns of it while it runs. In float16 with XNNPACK, every
    second interpreter or so then gives wrong images from the second call on.
    """

    def call(self, inputs):
        return keras.ops.reshape(inputs, (-1, *self.compute_output_shape(inputs.shape)[1:]))


def _converter(folder):
    loaded = tf.saved_model.load(folder)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=sorted(loaded.signatures, reverse=True))
    # No Flex: an operation that TFLite lacks must fail the export, not the user's phone.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _float16(folder):
    converter = _converter(folder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _dynamic_int8(float32):
    from litert_quantizer import quantizer, recipe

    with _silenced():
        return bytes(quantizer.Quantizer(float32, recipe.dynamic_wi8_afp32()).quantize().quantized_model)


def _int8(float32, attention_layers, batches):
    from litert_quantizer import quantizer, recipe
    from litert_quantizer.algorithm_manager import AlgorithmName
    from litert_quantizer.qtyping import TFLOperationName

    int8 = quantizer.Quantizer(float32, recipe.static_wi8_ai8())
    # Inputs and outputs stay float for the callers; attention, because int8 makes it slower and worse. Its matrix
    # products and softmax are named by kind: an operation that makes an output does not have the layer's name.
    ops = TFLOperationName
    float_ops = [(".*", op) for op in (ops.INPUT, ops.OUTPUT, ops.BATCH_MATMUL, ops.SOFTMAX)]
    float_ops += [(f".*{re.escape(name)}.*", ops.ALL_SUPPORTED) for name in attention_layers]
    for regex, op in float_ops:
        int8.update_quantization_recipe(regex, op, algorithm_key=AlgorithmName.NO_QUANTIZE)
    signatures = ["serving_default", "attention"] if attention_layers else ["serving_default"]
    with _silenced():
        return bytes(int8.quantize(_tensor_ranges(int8, batches, signatures)).quantized_model)


@contextlib.contextmanager
def _silenced():
    """Silences the quantizer, which prints progress bars, and warnings about what it does on purpose."""
    disabled_level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            with without_log_lines(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
    finally:
        logging.disable(disabled_level)


def _tensor_ranges(int8, batches, signatures):
    """Smallest and largest value of every tensor over all batches."""
    # One calibration per batch, merged here: the quantizer takes a moving average over batches, which cuts off the
    # values of rare images, and for large generators one batch of all images does not fit into memory.
    from litert_quantizer.utils.qsv_utils import min_max_update

    ranges = {}
    for batch in batches:
        batch_ranges = int8.calibrate({name: [batch] for name in signatures})
        ranges = {
            name: min_max_update(ranges.get(name, {}), value) if value else value
            for name, value in batch_ranges.items()
        }
    return ranges


def _calibration_batches(folded, batch, seed):
    batch = batch or _CALIBRATION_BATCH
    count = -(-CALIBRATION_IMAGES // batch)
    for inputs in random_batches(folded.latent_dim, folded.num_classes, count, batch, seed):
        yield dict(zip(("latent", "label"), inputs))
