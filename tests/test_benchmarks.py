"""The benchmarks run, at their smallest sizes; what they measure is for people to read."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from small_data import SHARED, needs_shared_data

ROOT = Path(__file__).resolve().parents[1]
NETWORK = ["--image_size", "32", "--channels", "8", "--batch", "4"]
NETWORKS = ["--image_sizes", "32", "--channels", "8"]
SMALL = {
    "attention_memory": ["--sizes", "8", "--pool_sizes", "1", "--channels", "8", "--batch", "2"],
    "backend_speed": [
        *NETWORKS,
        "--batch",
        "4",
        "--steps",
        "1",
        # Without `compile`, which takes minutes on a CPU.
        "--contenders",
        "peer channels_last bfloat16,jax precision=mixed_bfloat16",
    ],
    "data_loading": ["--image_size", "32", "--pictures", "64", "--records", "1000", "--batch", "8", "--steps", "2"],
    "generator_speed": [*NETWORKS, "--batch", "4", "--steps", "1"],
    "roofline": NETWORKS,
    "start_up": [],
    "step_operations": ["--configs", "quickstart"],
    "step_parts": NETWORK,
    "training_speed": [*NETWORKS, "--batch", "4", "--steps", "1", "--contenders", "ours,ours share_fake_batch"],
}


# `backend_speed` needs JAX and PyTorch instead of TensorFlow.
TORCH_PYTHON = os.environ.get("TORCH_PYTHON", sys.executable)
PYTHONS = {"backend_speed": os.environ.get("BACKENDS_PYTHON", sys.executable)}


@pytest.mark.stress
@pytest.mark.parametrize("name", SMALL)
def test_benchmark_prints_a_table(name, tmp_path):
    python = PYTHONS.get(name, sys.executable)
    if name in PYTHONS and subprocess.run([python, "-c", "import jax, torch"], capture_output=True).returncode:
        pytest.skip(f"{python} has no JAX or no PyTorch; BACKENDS_PYTHON names another Python")
    rounds = [] if name == "step_operations" else ["--rounds", "1"]
    result = subprocess.run(
        [python, ROOT / f"benchmarks/{name}.py", *SMALL[name], *rounds],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert "| --- |" in result.stdout
    assert not any(tmp_path.iterdir())


def test_cifar10_peer_has_the_settings_of_our_config(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    peer = importlib.import_module("cifar10_peer")
    options = SimpleNamespace(data_dir="tfds", steps=5000, interval=1000, features="a.keras", samples=20, out=tmp_path)
    peer.check_same_as_peer(peer.our_config(options, 0))


@pytest.mark.stress
@needs_shared_data
def test_cifar10_peer_trains_both_and_continues(tmp_path):
    """A second start trains nothing and writes the same curves."""
    pytest.importorskip("matplotlib")
    if subprocess.run([TORCH_PYTHON, "-c", "import torch, numpy"], capture_output=True).returncode:
        pytest.skip(f"{TORCH_PYTHON} has no PyTorch; TORCH_PYTHON names another Python")
    features = tmp_path / "features.keras"
    keras.Sequential([
        keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 5, strides=4), keras.layers.GlobalAveragePooling2D(),
    ]).save(features)  # fmt: skip
    out, results = tmp_path / "out", []
    for _ in range(2):
        subprocess.run(
            [sys.executable, ROOT / "benchmarks/cifar10_peer.py", "--data_dir", SHARED / "tfds", "--features", features,
             "--torch_python", TORCH_PYTHON, "--out", out, "--seeds", "0", "--steps", "2", "--interval", "1",
             "--samples", "20"],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True, timeout=600,
        )  # fmt: skip
        results.append(json.loads((out / "result.json").read_text())["curves"])
    assert results[0] == results[1]
    assert [(curve["name"], curve["steps"]) for curve in results[0]] == [
        ("sagan_tf", [1, 2]),
        ("BigGAN-PyTorch", [1, 2]),
    ]
    assert all(0 < distance < np.inf for curve in results[0] for distance in curve["frechet_distance"])
    assert (out / "curves.png").stat().st_size > 10_000
