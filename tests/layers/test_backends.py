"""The layers on Keras' other backends against TensorFlow.

TensorFlow runs here, the other backend in a process of its own: of this Python, or of the one that the environment
variable BACKENDS_PYTHON names.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from layers.backend_run import run
from layers.spectral_oracle import relative_error

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("BACKENDS_PYTHON", sys.executable)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("backends") / "tensorflow.npz"
    np.savez(path, **run())
    return path


def start(backend, *arguments):
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    return subprocess.run([PYTHON, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.backends
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_keras_backend_matches_tensorflow(backend, reference):
    if start(backend, "-c", f"import {backend}").returncode:
        pytest.skip(f"{PYTHON} has no {backend}; BACKENDS_PYTHON names another Python")
    path = reference.with_name(f"{backend}.npz")
    done = start(backend, str(Path(__file__).with_name("backend_run.py")), str(path))
    assert done.returncode == 0, done.stderr
    got, want = np.load(path), np.load(reference)
    assert set(got) == set(want)
    # Sums of up to a thousand products of numbers near 1; three training steps carry their errors on.
    errors = {name: relative_error(got[name], want[name]) for name in want}
    assert max(errors.values()) < 1e-4, {name: error for name, error in errors.items() if error > 1e-5}


PRODUCTS = """
import jax, keras
from sagan_tf.layers import SpectralNormalization

layer, x = SpectralNormalization(keras.layers.Dense(5, use_bias=False)), keras.ops.ones((3, 7))
layer(x)
for precision in ("bfloat16", "float32"):
    with jax.default_matmul_precision(precision):
        graph = jax.make_jaxpr(layer.stateless_call)([layer.layer.kernel.value], [layer.u.value], x)
        print(str(graph).count("dot_general"))
"""


@pytest.mark.slow
@pytest.mark.backends
def test_sigma_makes_no_matrix_product_when_jax_rounds_those():
    if start("jax", "-c", "import jax").returncode:
        pytest.skip(f"{PYTHON} has no jax; BACKENDS_PYTHON names another Python")
    done = start("jax", "-c", PRODUCTS)
    assert done.stdout.split() == ["1", "3"], done.stderr  # x times the kernel; the two products of a power iteration
