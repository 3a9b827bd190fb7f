"""Folders of pictures."""

import numpy as np
import pytest
from small_data import save_picture


@pytest.fixture
def class_folders(tmp_path):
    """A folder of ten random pictures in classes `a` and `b`."""
    rng = np.random.default_rng(0)
    for name in "ab":
        for i in range(5):
            save_picture(tmp_path / "data" / name / f"{i}.png", rng.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    return tmp_path / "data"
