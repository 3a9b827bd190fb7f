"""Kernels in C++ for bfloat16 on a CPU, compiled once on the user's machine.

TensorFlow computes element-wise operations in bfloat16 one at a time, compiled for processors without AVX2.
`compiled.cc` does in one pass what they do in four to eight.
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

from sagan_tf.accelerate.registry import Kernel
from sagan_tf.errors import UserError
from sagan_tf.files.atomic import atomic_write
from sagan_tf.files.cache import user_cache_folder
from sagan_tf.files.hashing import sha256_of_parts

_SOURCE = Path(__file__).with_name("compiled.cc")
_COMPILERS = ("c++", "g++", "clang++")


def kernels():
    """Kernels of this module, for `accelerate.use_kernels`; compiled now, unless an earlier process has done so."""
    load()
    return {
        "batch_normalize": Kernel(_batch_normalize, _is_bfloat16),
        "relu": Kernel(lambda x: load().sagan_tf_relu(x), _is_bfloat16),
        "extract_patches": Kernel(_extract_patches, _is_bfloat16),
        "power_iterations": Kernel(_power_iterations, lambda matrices, *_: matrices[0].dtype == tf.float32),
        "divide_by_sigma": Kernel(_divide_by_sigma, _gives_bfloat16),
    }


@functools.cache
def load():
    """Loads the module of TensorFlow operations; raises UserError if they cannot be compiled or loaded."""
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
    """Path of the compiled operations in the user's cache, which depends on all that they were made from."""
    made_from = [_SOURCE.read_bytes(), tf.__version__.encode(), platform.machine().encode(), *map(str.encode, _flags())]
    key = sha256_of_parts([b"\0".join(made_from)])[:16]
    return user_cache_folder() / f"native_operations-{key}.so"


def _flags():
    wanted = os.environ.get("CXXFLAGS", "")
    return ["-O3", "-w", "-shared", "-fPIC", *tf.sysconfig.get_compile_flags(), *shlex.split(wanted)]


def _compile(path):
    compiler = _compiler()
    print(f"Compiling kernels, once: {path}", file=sys.stderr)
    try:
        with atomic_write(path) as temporary_path:
            command = [*compiler, *_flags(), str(_SOURCE), "-o", str(temporary_path), *tf.sysconfig.get_link_flags()]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if done.returncode:
                raise UserError(_compiler_error(compiler, done))
    except OSError as error:
        raise UserError(
            f"hardware.native_operations: cannot compile into `{path.parent}`: {error.strerror}. "
            "Set SAGAN_TF_CACHE to a folder that can be written, or hardware.native_operations to false."
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
    available = [[name] for name in _COMPILERS if shutil.which(name)]
    if named and shutil.which(named[0]):
        return named
    if named or not available:
        missing = f"no `{named[0]}` that CXX names" if named else f"none of {', '.join(_COMPILERS)}"
        raise UserError(
            f"hardware.native_operations: needs a C++ compiler, and there is {missing}. "
            "Install one, such as g++, or set hardware.native_operations to false."
        )
    return available[0]


def _is_bfloat16(x, *_):
    return x.dtype == tf.bfloat16


def _batch_normalize(x, scale, offset, epsilon, synchronized):
    outputs, mean, variance = load().sagan_tf_normalize(x, scale, offset, epsilon=epsilon)
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(variance)


@tf.RegisterGradient("SaganTfNormalize")
def _normalize_gradient(operation, upstream, *_):
    x, scale, _ = operation.inputs
    _, mean, variance = operation.outputs
    return load().sagan_tf_normalize_grad(upstream, x, scale, mean, variance, epsilon=operation.get_attr("epsilon"))


@tf.RegisterGradient("SaganTfRelu")
def _relu_gradient(operation, upstream):
    return load().sagan_tf_relu_grad(upstream, operation.outputs[0])


@tf.RegisterGradient("SaganTfReluGrad")
def _relu_second_gradient(operation, upstream):
    return load().sagan_tf_relu_grad(upstream, operation.inputs[1]), None


def _extract_patches(x, height, width):
    return load().sagan_tf_patches(x, kernel_height=height, kernel_width=width)


def _power_iterations(matrices, vectors, iterations, epsilon):
    run = load().sagan_tf_singular_vectors
    results = [run(matrix, u, iterations=iterations, epsilon=epsilon) for matrix, u in zip(matrices, vectors)]
    us, vs, sigmas = zip(*(map(tf.stop_gradient, result) for result in results))
    return us, vs, tf.stack(sigmas)


def _gives_bfloat16(kernel, estimate, output_axes, dtype, compute_dtype):
    return kernel.dtype == tf.float32 and compute_dtype == "bfloat16" and tuple(output_axes) == (-1,)


def _divide_by_sigma(kernel, estimate, output_axes, dtype, compute_dtype):
    u, v, factor, factor_gradient = estimate

    @tf.custom_gradient
    def divide(kernel):
        matrix = tf.reshape(kernel, (-1, kernel.shape[-1]))

        def gradient(upstream):
            upstream = tf.reshape(upstream, matrix.shape)
            of_matrix = load().sagan_tf_scale_kernel_grad(upstream, matrix, factor, -factor_gradient, v, u)
            return tf.reshape(of_matrix, kernel.shape)

        return tf.reshape(load().sagan_tf_scale_kernel(matrix, factor), kernel.shape), gradient

    return divide(kernel)
