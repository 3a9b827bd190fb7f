"""Runs the makers of goldens and fails if the results differ from the committed files; `make parity` calls it.

    .venv-parity/bin/python tests/parity/check_goldens.py [--torch | --metrics] [--write]

Without an option it runs make_goldens.py (TF-GAN, TensorFlow Addons); with `--torch` make_torch_goldens.py, for which
any Python with PyTorch will do; with `--metrics` make_metrics_goldens.py, which names its requirements. `--write`
replaces the committed files after a change of the recipe.
"""

import importlib
import sys
import tempfile
from pathlib import Path

import numpy as np

FILES = Path(__file__).with_name("files")
RELATIVE_TOLERANCE = 2e-5  # Processors and thread counts differ in the order of float32 sums.


def difference(actual, expected):
    """Returns |actual - expected| / |expected|; infinite where shapes differ, 0 or infinite for text."""
    if actual.dtype.kind in "US" or expected.dtype.kind in "US":
        return 0.0 if str(actual) == str(expected) else np.inf
    if actual.shape != expected.shape:
        return np.inf
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    norm = np.linalg.norm(expected)
    return float(np.linalg.norm(actual - expected) / norm) if norm else float(np.linalg.norm(actual))


def compare(names, folder):
    """Prints the largest difference of each file; returns whether all are within the tolerance."""
    agree = True
    for name in names:
        with np.load(Path(folder) / f"{name}.npz") as actual, np.load(FILES / f"{name}.npz") as expected:
            differences = {key: difference(actual[key], expected[key]) for key in actual.files if key in expected.files}
            unpaired = sorted(set(actual.files) ^ set(expected.files))
            worst = max(differences, key=differences.get)
            print(f"{name}: {len(differences)} arrays, largest relative difference {differences[worst]:.1e} ({worst})")
            if unpaired:
                print(f"  in only one of the two: {', '.join(unpaired[:5])}")
            agree &= not unpaired and differences[worst] <= RELATIVE_TOLERANCE
    return agree


def main(arguments):
    kind = next((kind for kind in ("torch", "metrics") if f"--{kind}" in arguments), None)
    maker = importlib.import_module(f"make_{kind}_goldens" if kind else "make_goldens")
    if "--write" in arguments:
        maker.main(FILES)
        return
    with tempfile.TemporaryDirectory() as folder:
        maker.main(folder)
        if not compare(maker.GOLDENS, folder):
            sys.exit(f"error: the goldens in {FILES} differ from the results of the packages; see above.")


if __name__ == "__main__":
    main(sys.argv[1:])
