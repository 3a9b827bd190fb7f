"""Writes pictures of 32 x 64 px with four shapes of the same kind and color, a folder per kind.

    python docs/figures/rectangles.py wide
    sagan train --data.name wide --data.image_height 32 --data.image_width 64 --training.steps 2400 --run runs/wide
    sagan sample runs/wide --columns 4

Each picture is one of `twins` beside its mirror image.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from sagan_tf.data.embedded import KINDS, render

PICTURES = 10_000


def main():
    folder = Path(sys.argv[1])
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number, (twins, label) in enumerate(zip(*render("twins", range(PICTURES)))):
        four = np.concatenate([twins, twins[:, ::-1]], axis=1)
        Image.fromarray(four).save(folder / KINDS[label] / f"{number:05}.png")


if __name__ == "__main__":
    main()
