"""Small data sets for tests."""

from pathlib import Path

import pytest
from PIL import Image

from sagan_tf.data.options import DataOptions
from sagan_tf.data.sources import open_source

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_shared_data = pytest.mark.skipif(not SHARED.exists(), reason="../shared/data does not exist")


def open_small(name, **options):
    """Opens a data set without a progress bar, at 32 px unless `options` differ."""
    return open_source(DataOptions(**{"name": str(name), "image_size": 32, **options}), show_progress=False)


def save_picture(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
