"""Draws what augmentation shows the discriminator: docs/figures/augmentation.png.

    python docs/figures/augmentation.py cifar10 DIR docs/figures/augmentation.png

The first argument is a data set or a folder of images, as for `--data.name`, and the second the folder of
TensorFlow Datasets.
"""

import sys

import numpy as np

from sagan_tf.data.options import DataOptions
from sagan_tf.data.sources import open_source, spread_over_classes
from sagan_tf.training.adaptive_augmentation import ADA_NORMALS, ADA_UNIFORMS, ada_augment
from sagan_tf.training.augmentation import OPERATIONS, UNIFORMS, diff_augment
from sagan_tf.viewing.image_grids import Table, save_table

COLUMNS = 10
PROBABILITIES = (0.2, 0.5, 0.8)


def main():
    name, data_dir, path = sys.argv[1:]
    levels, _ = spread_over_classes(open_source(DataOptions(name=name, data_dir=data_dir, image_size=32)), COLUMNS)
    images = levels.astype(np.float32) / 127.5 - 1
    random = np.random.default_rng(0)
    uniforms = [random.random((len(images), size), np.float32) for size in (UNIFORMS, ADA_UNIFORMS)]
    normals = random.standard_normal((len(images), ADA_NORMALS), np.float32)
    rows = {"images": images, "DiffAugment": diff_augment(images, uniforms[0], OPERATIONS)}
    rows |= {f"ADA, p = {p}": ada_augment(images, p, uniforms[1], normals) for p in PROBABILITIES}
    rows = {title: np.clip(np.asarray(row), -1, 1) for title, row in rows.items()}
    save_table(Table(np.stack(list(rows.values())), tuple(rows), (), "What the discriminator sees"), path)


if __name__ == "__main__":
    main()
