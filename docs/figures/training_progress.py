"""Draws the same sample of each class at several steps of a run, one row per checkpoint, with its Fréchet distance.

python docs/figures/training_progress.py runs/cifar10_small 1000 2000 5000 10000 20000 --out cifar10_progress.png
"""

import argparse
from pathlib import Path

import numpy as np

from sagan_tf.experiment.loading import class_names, restore_networks
from sagan_tf.generation.sampler import Sampler
from sagan_tf.runs.folder import Run
from sagan_tf.viewing.image_grids import Table, save_table


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("steps", type=int, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    run = Run.open(options.run)
    measured = {line["step"]: line["frechet_distance"] for line in run.read_metrics() if "frechet_distance" in line}
    rows, titles = [], []
    for step in options.steps:
        sampler = Sampler(restore_networks(run, step, discriminator=True).generator, show_progress=False)
        names = class_names(run, sampler.num_classes)
        rows.append(sampler.sample(np.zeros(len(names), int), np.arange(len(names))))
        titles.append(f"{step:,} steps: {measured[step]:.2f}" if step in measured else f"{step:,} steps")
    save_table(Table(np.stack(rows), tuple(titles), names, "Seed 0 of each class; Fréchet distance"), options.out)


if __name__ == "__main__":
    main()
