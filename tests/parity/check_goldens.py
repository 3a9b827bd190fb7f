"""Runs the makers of goldens anew and fails where the outcome differs from the committed files; `make parity` calls it.

    .venv-parity/bin/python tests/parity/check_goldens.py [--torch | --metrics] [--write]

It runs make_goldens.py (TF-GAN, TensorFlow Addons); with `--torch` make_torch_goldens.py, for which any Python with
PyTorch will do; with `--metrics` make_metrics_goldens.py, which needs what its head names. `--write`
replaces the committed files, for a change of the recipe.
"""

import importlib
import sys
import tempfile
from pathlib import Path

import numpy as np

FILES = Path(__file__).with_name("files")
# Other processors and thread counts add up float32 numbers in another order.
RELATIVE = 2e-5


def difference(got, want):
    """|got - want| / |want|, infinite where shapes differ, 0 or infinite for text."""
    if got.dtype.kind in "US" or want.dtype.kind in "US":
        return 0.0 if str(got) == str(want) else np.inf
    if got.shape != want.shape:
        return np.inf
    got, want = got.astype(np.float64), want.astype(np.float64)
    norm = np.linalg.norm(want)
    return float(np.linalg.norm(got - want) / norm) if norm else float(np.linalg.norm(got))


def compare(names, folder):
    """Prints the largest difference of each file; returns whether all are alike."""
    alike = True
    for name in names:
        with np.load(Path(folder) / f"{name}.npz") as got, np.load(FILES / f"{name}.npz") as want:
            differences = {key: difference(got[key], want[key]) for key in got.files if key in want.files}
            unpaired = sorted(set(got.files) ^ set(want.files))
            worst = max(differences, key=differences.get)
            print(f"{name}: {len(differences)} arrays, largest relative difference {differences[worst]:.1e} ({worst})")
            if unpaired:
                print(f"  only in one of both: {', '.join(unpaired[:5])}")
            alike &= not unpaired and differences[worst] <= RELATIVE
    return alike


def main(arguments):
    kind = next((kind for kind in ("torch", "metrics") if f"--{kind}" in arguments), None)
    maker = importlib.import_module(f"make_{kind}_goldens" if kind else "make_goldens")
    if "--write" in arguments:
        maker.main(FILES)
        return
    with tempfile.TemporaryDirectory() as made:
        maker.main(made)
        if not compare(maker.GOLDENS, made):
            sys.exit(f"error: the goldens in {FILES} are not what the packages give; see above.")


if __name__ == "__main__":
    main(sys.argv[1:])
