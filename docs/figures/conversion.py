"""Converts a run to BigGAN-PyTorch, and draws its images beside those of PyTorch with the written file.

    PYTHONPATH=tests python docs/figures/conversion.py RUN docs/figures/conversion.png

Needs PyTorch. The networks there are those of tests/parity, with the names of BigGAN-PyTorch.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from parity.torch_networks import Generator

import sagan_tf
from sagan_tf.commands.convert import write_biggan_pytorch
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler
from sagan_tf.viewing.image_grids import Table, save_table

SEEDS = np.arange(10)
GAIN = 300_000  # of the difference that is drawn


def main():
    run_path, out = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        print("\n".join(write_biggan_pytorch(run_path, None, folder)))
        state = torch.load(Path(folder, "G_ema.pth"), weights_only=True)
    run = sagan_tf.load_run(run_path)
    latents, labels = Sampler(run.model).inputs(SEEDS, SEEDS % run.num_classes)
    ours = fold_generator(run.model).generate(latents, labels)["image"].numpy()  # in float32
    theirs = draw(state, latents, labels)
    difference = np.abs(ours - theirs)
    print(f"largest difference of a value in [-1, 1]: {difference.max():.2g}")
    rows = np.stack([ours, theirs, np.clip(difference * GAIN, 0, 2) - 1])
    titles = "sagan_tf", "PyTorch, with the written file", f"difference x {GAIN:,}"
    save_table(Table(rows, titles, tuple(run.class_names), ""), out)


def draw(state, latents, labels):
    """Images (N, H, W, 3) of BigGAN-PyTorch's generator."""
    blocks = range(sum(name.endswith(".0.conv1.weight") for name in state))
    widths = [len(state["linear.bias"]) // 16, *(len(state[f"blocks.{i}.0.conv1.bias"]) for i in blocks)]
    attention_after = [i for i in blocks if f"blocks.{i}.1.gamma" in state]
    classes = len(state["blocks.0.0.bn1.gain.weight"])
    generator = Generator("biggan_pytorch", widths, latents.shape[1], classes, attention_after)
    generator.load_state_dict(state, strict=True)
    with torch.no_grad():
        images = generator.eval()(torch.from_numpy(latents), torch.from_numpy(labels))
    return images.numpy().transpose(0, 2, 3, 1)


if __name__ == "__main__":
    main()
