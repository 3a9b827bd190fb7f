"""Inverts samples and held-out pictures of `twins`, and draws docs/figures/inversion.png.

    python docs/figures/inversion.py docs/figures/inversion.png     # ten minutes on two CPU cores

Prints how close the images of the latents come to the pictures, and for samples the cosine of each latent with that of
its seed.
"""

import sys

import numpy as np

import sagan_tf
from sagan_tf.data.embedded import render
from sagan_tf.generation.latents import draw_latents
from sagan_tf.generation.truncation import NO_TRUNCATION
from sagan_tf.viewing.image_grids import Table, save_table

SAMPLES, PICTURES = np.arange(5000, 5010), np.arange(30_000, 30_006)


def main():
    run = sagan_tf.pretrained("twins")
    labels = SAMPLES % 4
    found = sagan_tf.invert(run, run.sample(SAMPLES, labels))
    print("samples:", describe(found.psnr), f"{(found.labels == labels).sum()} of {len(labels)} classes")
    latents = draw_latents(SAMPLES, np.full(len(SAMPLES), NO_TRUNCATION), found.latents.shape[1]).numpy()
    lengths = np.linalg.norm(latents, axis=1) * np.linalg.norm(found.latents, axis=1)
    print("cosines:", np.sort((latents * found.latents).sum(1) / lengths).round(3))
    pictures, labels = render("twins", PICTURES)
    found = sagan_tf.invert(run, pictures, labels)
    print("held-out pictures:", describe(found.psnr))
    titles = ("picture", "inverted"), tuple(f"{psnr:.1f} dB" for psnr in found.psnr)
    images = np.stack([pictures, np.asarray(found.images)])
    title = "Pictures that the generator was not trained on, and their inversion"
    save_table(Table(images, *titles, title), sys.argv[1])


def describe(psnr):
    return f"{min(psnr):.1f} to {max(psnr):.1f} dB, median {np.median(psnr):.1f}"


if __name__ == "__main__":
    main()
