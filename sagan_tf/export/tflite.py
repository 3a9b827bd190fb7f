"""The generator as TFLite files: for phones, browsers and small machines. Latents are drawn by whoever calls."""

import contextlib
import importlib.util
import io
import logging
import re
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from sagan_tf.files.atomic import write_bytes
from sagan_tf.generation.folding import as_folded

VARIANTS = ("float32", "float16", "dynamic_int8", "int8")
CALIBRATION_IMAGES = 256
_CALIBRATION_BATCH = 16  # images; all feature maps of them are kept at once


def export_tflite(generator, directory, *, variants=VARIANTS, batch=None, seed=0):
    """Writes a generator as TFLite files of several precisions, with built-in operations alone (no Flex).

    Each has the signatures `serving_default` (latent (B, D) float32, label (B,) int32 -> image (B, S, S, C) float32 in
    [-1, 1]) and, where there are attention layers, `attention` (the same -> image, and a map (B, N, M) by layer name).
    Without classes, no label. A label out of range, -1 too, makes the interpreter fail. The variants, in the order of
    their error:

    | variant | weights | arithmetic |
    |---|---|---|
    | `float32` | float32 | float32 |
    | `float16` | float16 | float32 |
    | `dynamic_int8` | int8 by channel | int8 with ranges of the picture at hand; class tables and sums float32 |
    | `int8` | int8 by channel | int8 with ranges measured beforehand on `CALIBRATION_IMAGES`; attention float32 |

    The int8 ones are made by `ai-edge-quantizer` (the extra `tflite`); without it they are left out, with a line on
    stdout.

    Args:
        generator: `FoldedGenerator`, or keras.Model [latent, label] or latent -> image, which is folded.
        directory: Folder of the files `generator_VARIANT.tflite`; made if it is not there.
        variants: Some of `VARIANTS`.
        batch: int, the one size B of a batch, which some runtimes need; None: any size, by `resize_tensor_input`.
        seed: int, of the latents that `int8` is calibrated with.

    Returns:
        dict, variant -> pathlib.Path.

    Raises:
        ValueError: The generator cannot be folded, or a variant is unknown.
    """
    unknown = [variant for variant in variants if variant not in VARIANTS]
    if unknown or not variants:
        raise ValueError(f"`variants` must be among {VARIANTS}. Received: {variants=}.")
    folded = as_folded(generator)
    variants = _possible(variants)
    with tempfile.TemporaryDirectory() as folder:
        _write_plain_saved_model(folded, folder, batch)
        float32 = _converter(folder).convert()
        contents = {
            "float32": lambda: float32,
            "float16": lambda: _float16(folder),
            "dynamic_int8": lambda: _dynamic_int8(float32),
            "int8": lambda: _int8(
                float32, folded.attention_shapes, _calibration_batches(folded, batch, seed), _signatures(folded)
            ),
        }
        return {
            variant: _write(contents[variant](), Path(directory) / f"generator_{variant}.tflite")
            for variant in variants
        }


def _possible(variants):
    if importlib.util.find_spec("ai_edge_quantizer"):
        return variants
    left_out = [variant for variant in variants if "int8" in variant]
    if left_out:
        print(f"No {' and no '.join(left_out)} of TFLite: `pip install 'sagan-tf[tflite]'` brings what they need.")
    return [variant for variant in variants if variant not in left_out]


def _write(content, path):
    write_bytes(path, content)
    return path


def _write_plain_saved_model(folded, folder, batch):
    """Writes the network without the checks of a server, which TFLite has no operations for."""
    specs = [tf.TensorSpec([batch, folded.latent_dim], tf.float32, name="latent")]
    if folded.num_classes is not None:
        specs.append(tf.TensorSpec([batch], tf.int32, name="label"))
    network = tf.function(folded.generate, input_signature=specs, autograph=False)
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serving_default", lambda *x: {"image": network(*x)["image"]}, input_signature=specs)
    if folded.attention_shapes:
        archive.add_endpoint("attention", lambda *x: network(*x), input_signature=specs)
    archive.write_out(folder, verbose=False)


def _signatures(folded):
    return ["serving_default", "attention"] if folded.attention_shapes else ["serving_default"]


def _converter(folder):
    loaded = tf.saved_model.load(folder)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=sorted(loaded.signatures, reverse=True))
    # Nothing else: an operation that TFLite lacks must end the export, and not turn up on somebody's phone.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _float16(folder):
    converter = _converter(folder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _dynamic_int8(float32):
    from ai_edge_quantizer import quantizer, recipe

    with _silence():
        return bytes(quantizer.Quantizer(float32, recipe.dynamic_wi8_afp32()).quantize().quantized_model)


def _int8(float32, attention_layers, batches, signatures):
    from ai_edge_quantizer import quantizer, recipe
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    maker = quantizer.Quantizer(float32, recipe.static_wi8_ai8())
    # Inputs and outputs stay float, so that callers need not know; attention, because int8 makes it slower and worse.
    # Its products and its softmax by their kind: an operation that makes an output does not bear the layer's name.
    kinds = TFLOperationName
    left_float = [(".*", kind) for kind in (kinds.INPUT, kinds.OUTPUT, kinds.BATCH_MATMUL, kinds.SOFTMAX)]
    left_float += [(f".*{re.escape(name)}.*", kinds.ALL_SUPPORTED) for name in attention_layers]
    for regex, operation in left_float:
        maker.update_quantization_recipe(regex, operation, algorithm_key=AlgorithmName.NO_QUANTIZE)
    with _silence():
        return bytes(maker.quantize(_ranges(maker, batches, signatures)).quantized_model)


@contextlib.contextmanager
def _silence():
    """The quantiser prints progress bars, and warnings of what it does on purpose."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
    finally:
        logging.disable(before)


def _ranges(maker, batches, signatures):
    """Smallest and largest value of every tensor over all batches.

    One calibration a batch, put together here: the quantiser itself takes a moving average over batches, which cuts off
    what a rare picture needs, and all pictures in one batch do not fit into memory for large generators.
    """
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    ranges = {}
    for batch in batches:
        found = maker.calibrate({name: [batch] for name in signatures})
        ranges = {name: min_max_update(ranges.get(name, {}), one) if one else one for name, one in found.items()}
    return ranges


def _calibration_batches(folded, batch, seed):
    batch = batch or _CALIBRATION_BATCH
    rng = np.random.Generator(np.random.Philox(key=[seed, 2]))
    for _ in range(-(-CALIBRATION_IMAGES // batch)):
        inputs = {"latent": rng.standard_normal((batch, folded.latent_dim), np.float32)}
        if folded.num_classes is not None:
            inputs["label"] = rng.integers(0, folded.num_classes, batch, np.int32)
        yield inputs
