"""Operations of our own for a CPU in bfloat16, compiled on the user's machine; TensorFlow.

TensorFlow's operations on feature maps and kernels in bfloat16 go over their operands one at a time, and are compiled
for processors without AVX2. `compiled.cc` does in one pass what they do in four to eight.
"""

import functools
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import tensorflow as tf

from sagan_tf.errors import UserError
from sagan_tf.files.atomic import atomic_write
from sagan_tf.files.hashing import sha256_of_parts

_SOURCE = Path(__file__).with_name("compiled.cc")
_COMPILERS = ("c++", "g++", "clang++")


def lendable():
    """The operations as functions, with gradients; compiled at the first call of a machine, in some ten seconds.

    Returns:
        dict for `layers.lending`.

    Raises:
        UserError: They cannot be compiled or loaded.
    """
    load()
    return {
        "normalize": _normalize,
        "rectify": _rectify,
        "add_scaled": _add_scaled,
        "add_channels": _add_channels,
        "sum_channels": _sum_channels,
        "patches": _patches,
        "sum_quads": _sum_quads,
        "repeat_quads": _repeat_quads,
        "singular_vectors": _singular_vectors,
        "scale_kernel": _scale_kernel,
    }


@functools.cache
def load():
    """Loads the operations into this process, and compiles them first if no earlier run has.

    Returns:
        Module of the operations.

    Raises:
        UserError: There is no compiler, or it or TensorFlow fails.
    """
    path = library_path()
    if not path.exists():
        _compile(path)
    try:
        return tf.load_op_library(str(path))
    except tf.errors.NotFoundError as error:
        raise UserError(
            f"hardware.native_operations: TensorFlow cannot load `{path}`: {error}. "
            "Remove the file, or set hardware.native_operations to false."
        ) from None


def library_path():
    """Where the compiled operations lie: in the user's cache, by what they were made from.

    Returns:
        Path.
    """
    made_from = [_SOURCE.read_bytes(), tf.__version__.encode(), platform.machine().encode(), *map(str.encode, _flags())]
    key = sha256_of_parts([b"\0".join(made_from)])[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "sagan_tf" / f"native_operations-{key}.so"


def _flags():
    wanted = os.environ.get("CXXFLAGS", "")
    return ["-O3", "-w", "-shared", "-fPIC", *tf.sysconfig.get_compile_flags(), *shlex.split(wanted)]


def _compile(path):
    compiler = _compiler()
    print(f"Compiling operations of our own, once: {path}", file=sys.stderr)
    try:
        with atomic_write(path) as temporary_path:
            command = [*compiler, *_flags(), str(_SOURCE), "-o", str(temporary_path), *tf.sysconfig.get_link_flags()]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if done.returncode:
                raise UserError(_compiler_error(compiler, done))
    except OSError as error:
        raise UserError(
            f"hardware.native_operations: cannot compile into `{path.parent}`: {error.strerror}. "
            "Set XDG_CACHE_HOME to a folder that can be written, or hardware.native_operations to false."
        ) from None


def _compiler_error(compiler, done):
    complaints = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
    reason = complaints[0][:300] if complaints else f"exit code {done.returncode}"
    return (
        f"hardware.native_operations: `{' '.join(compiler)}` fails on {_SOURCE.name}: {reason}. "
        "Set CXX to another compiler, or hardware.native_operations to false."
    )


def _compiler():
    named = shlex.split(os.environ.get("CXX", ""))
    found = [[name] for name in _COMPILERS if shutil.which(name)]
    if named and shutil.which(named[0]):
        return named
    if named or not found:
        missing = f"no `{named[0]}` that CXX names" if named else f"none of {', '.join(_COMPILERS)}"
        raise UserError(
            f"hardware.native_operations: needs a C++ compiler, and there is {missing}. "
            "Install one, such as g++, or set hardware.native_operations to false."
        )
    return found[0]


def _normalize(x, scale, offset, epsilon):
    if x.dtype != tf.bfloat16 or scale.dtype != tf.float32:
        return None
    outputs, mean, variance = load().sagan_tf_normalize(x, scale, offset, epsilon=epsilon)
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(variance)


@tf.RegisterGradient("SaganTfNormalize")
def _slopes_of_normalize(operation, upstream, *_):
    x, scale, _ = operation.inputs
    _, mean, variance = operation.outputs
    return load().sagan_tf_normalize_grad(
        upstream, x, scale, mean, variance, epsilon=operation.get_attr("epsilon")
    )


def _rectify(x):
    return load().sagan_tf_relu(x) if x.dtype == tf.bfloat16 else None


@tf.RegisterGradient("SaganTfRelu")
def _slope_of_relu(operation, upstream):
    return load().sagan_tf_relu_grad(upstream, operation.outputs[0])


@tf.RegisterGradient("SaganTfReluGrad")
def _slopes_of_relu_slope(operation, upstream):
    return load().sagan_tf_relu_grad(upstream, operation.inputs[1]), None


def _add_scaled(x, y, factor):
    if x.dtype != tf.bfloat16 or y.dtype != tf.bfloat16:
        return None
    if not isinstance(factor, float):
        return load().sagan_tf_add_scaled(x, y, tf.cast(factor, tf.float32))

    @tf.custom_gradient
    def add(x, y):
        def gradient(upstream):
            return upstream, upstream if factor == 1.0 else upstream * factor

        return load().sagan_tf_add_scaled(x, y, factor), gradient

    return add(x, y)


@tf.RegisterGradient("SaganTfAddScaled")
def _slopes_of_sum(operation, upstream):
    _, y, factor = operation.inputs
    return upstream, *load().sagan_tf_add_scaled_grad(upstream, y, factor)


@tf.RegisterGradient("SaganTfAddScaledGrad")
def _slopes_of_slopes_of_sum(operation, upstream, of_factor):
    before, y, factor = operation.inputs
    of_before = load().sagan_tf_add_scaled(tf.cast(of_factor, y.dtype) * y, upstream, factor)
    of_upstream = tf.reduce_sum(tf.cast(before, tf.float32) * tf.cast(upstream, tf.float32))
    return of_before, tf.cast(of_factor, y.dtype) * before, tf.reshape(of_upstream, tf.shape(factor))


def _add_channels(x, row):
    return load().sagan_tf_add_channels(x, row) if x.dtype == row.dtype == tf.bfloat16 else None


def _sum_channels(x):
    return load().sagan_tf_sum_channels(x) if x.dtype == tf.bfloat16 else None


@tf.RegisterGradient("SaganTfSumChannels")
def _slope_of_sum(operation, upstream):
    x = operation.inputs[0]
    return tf.broadcast_to(tf.cast(upstream, x.dtype), tf.shape(x))


def _patches(x, height, width):
    if x.dtype != tf.bfloat16 or x.shape.rank != 4:
        return None
    return load().sagan_tf_patches(x, kernel_height=height, kernel_width=width)


@tf.RegisterGradient("SaganTfPatches")
def _slope_of_patches(operation, upstream):
    height, width = operation.get_attr("kernel_height"), operation.get_attr("kernel_width")
    parts = tf.split(upstream, height * width, axis=-1)
    places = [(i, j) for i in range(height) for j in range(width)]
    padded = [
        tf.pad(part, ((0, 0), (i, height - 1 - i), (j, width - 1 - j), (0, 0)))
        for part, (i, j) in zip(parts, places, strict=True)
    ]
    rows, columns = tf.unstack(tf.shape(upstream)[1:3])
    top, left = height // 2, width // 2
    return tf.add_n(padded)[:, top : top + rows, left : left + columns]


def _sum_quads(x, factor):
    even = x.shape.rank == 4 and all(size is not None and size % 2 == 0 for size in x.shape[1:3])
    return load().sagan_tf_sum_quads(x, factor=factor) if x.dtype == tf.bfloat16 and even else None


@tf.RegisterGradient("SaganTfSumQuads")
def _slope_of_sum_quads(operation, upstream):
    return load().sagan_tf_repeat_quads(upstream, factor=operation.get_attr("factor"))


def _repeat_quads(x, factor):
    fits = x.dtype == tf.bfloat16 and x.shape.rank == 4
    return load().sagan_tf_repeat_quads(x, factor=factor) if fits else None


@tf.RegisterGradient("SaganTfRepeatQuads")
def _slope_of_repeat_quads(operation, upstream):
    return load().sagan_tf_sum_quads(upstream, factor=operation.get_attr("factor"))


def _singular_vectors(matrix, u, iterations, epsilon):
    if matrix.dtype != tf.float32:
        return None
    found = load().sagan_tf_singular_vectors(matrix, u, iterations=iterations, epsilon=epsilon)
    return [tf.stop_gradient(part) for part in found]


def _scale_kernel(matrix, factor, along, column, row):
    if matrix.dtype != tf.float32:
        return None

    @tf.custom_gradient
    def scale(matrix):
        def gradient(upstream):
            return load().sagan_tf_scale_kernel_grad(upstream, matrix, factor, along, column, row)

        return load().sagan_tf_scale_kernel(matrix, factor), gradient

    return scale(matrix)
