"""Measures what starting from weights saves: CIFAR-10 without two classes, then these two with 1,000 images each.

    python benchmarks/cifar10_features.py --data_dir DIR --out cifar10_features.keras
    python benchmarks/start_from.py --data_dir DIR --features cifar10_features.keras:features --out OUT

For each seed, a run on eight classes, and runs on the other two: from scratch, from the weights of the first, the same
with two blocks of the discriminator frozen (FreezeD), both starts with DiffAugment, and the generator's weights beside
a new discriminator. The Frechet distance of the features to held-out images of the two classes is computed every
--interval steps. Writes OUT/result.json and OUT/curves.png; the same command resumes. Options that are not listed go to
`sagan_tf.train`, for all runs.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from reporting import describe_machine, load_pyplot, set_log_scale, write_json

from sagan_tf.config import load_config
from sagan_tf.data.options import DataOptions
from sagan_tf.data.sources import open_source
from sagan_tf.errors import STOPPED_CODES, one_line_errors
from sagan_tf.experiment.train import train
from sagan_tf.files.atomic import atomic_folder
from sagan_tf.runs.folder import Run

NEW_CLASSES = ("dog", "ship")
NEW_PICTURES = 1000  # of each new class
SHOWN_STEP = 1000  # whose samples are drawn; a sample interval
# A narrow cifar10_small, with an average short enough for its first distances.
FLAGS = {
    "config": "cifar10_small",
    "generator.channels": 16,
    "discriminator.channels": 32,
    "training.ema_decay": 0.99,
    "training.ema_start_step": 0,
    "output.checkpoints_to_keep": 1,
    "output.tensorboard": "none",
}
DIFFAUGMENT = {"training.augmentation": "[color, translation, cutout]"}
ARMS = {
    "scratch": lambda source: {},
    "weights": lambda source: {"training.start_from": source},
    "weights, 2 blocks frozen": lambda source: {"training.start_from": source, "discriminator.frozen_blocks": 2},
    "weights, DiffAugment": lambda source: {"training.start_from": source, **DIFFAUGMENT},
    "scratch, DiffAugment": lambda source: DIFFAUGMENT,
    "weights of G alone": lambda source: {"training.start_from": source / "generator.keras"},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data_dir", help="folder of prepared TensorFlow Datasets")
    parser.add_argument("--features", required=True, metavar="PATH:NAME", help="Keras file and layer")
    parser.add_argument("--out", type=Path, required=True, help="folder of data and runs, kept between starts")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--source_steps", type=int, default=15_000)
    parser.add_argument("--steps", type=int, default=3_600)
    parser.add_argument("--interval", type=int, default=300, help="steps between two distances")
    parser.add_argument("--samples", type=int, default=5_000, help="generated pictures of a distance")
    parser.add_argument("--pictures", type=int, default=5_000, help="pictures of each old class")
    parser.add_argument("--held_out", type=int, default=5_000, help="held-out pictures of each new class")
    options, further = parser.parse_known_args()
    with one_line_errors("The same command continues."):
        load_pyplot()  # before hours of training
        write_pictures(options)
        curves = [measure(options, further, arm, seed) for seed in options.seeds for arm in ARMS]
        summary = summarize(curves)
        result = {"options": {**vars(options), "out": None, "data_dir": None}, "further": further, "curves": curves,
                  "summary": summary, "environment": describe_machine()}  # fmt: skip
        write_json(options.out / "result.json", result)
        draw(options, curves, options.out / "curves.png")
        print(json.dumps(summary, indent=1))


def write_pictures(options):
    """Writes OUT/pictures: old/train, new/train and new/test, the held-out ones, with one folder per class."""
    if (options.out / "pictures").exists():
        return
    counts = {}
    with atomic_folder(options.out / "pictures") as folder:
        for split in ("train", "test"):
            source = open_source(DataOptions(name="cifar10", split=split, data_dir=options.data_dir, image_size=32))
            for images, labels in source.reader.in_order_batches(500):
                for image, label in zip(np.asarray(images), np.asarray(labels)):
                    name = source.class_names[label]
                    number = counts[name] = counts.get(name, -1) + 1
                    save_picture(folder, name, number, split, image, options)


def save_picture(folder, name, number, split, image, options):
    is_new = name in NEW_CLASSES
    if number >= (NEW_PICTURES + options.held_out if is_new else options.pictures) or split == "test" and not is_new:
        return
    place = "old/train" if not is_new else "new/train" if number < NEW_PICTURES else "new/test"
    path = folder / place / name / f"{number:05}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def measure(options, further, arm, seed):
    """Trains what is missing of an arm; returns its distances by step."""
    source = options.out / "runs" / str(seed) / "source"
    if "training.start_from" in ARMS[arm](source):
        run_to_end(options, further, source, "old", options.source_steps, seed, {})
    evaluation = {
        "evaluation.interval": options.interval,
        "evaluation.features": options.features,
        "evaluation.num_samples": options.samples,
        "evaluation.split": "test",
    }
    folder, changes = arm_folder(options, arm, seed), {**evaluation, **ARMS[arm](source)}
    run = run_to_end(options, further, folder, "new", options.steps, seed, changes)
    lines = [line for line in run.read_metrics() if "frechet_distance" in line]
    return {"arm": arm, "seed": seed, "steps": [line["step"] for line in lines],
            "frechet_distance": [line["frechet_distance"] for line in lines]}  # fmt: skip


def arm_folder(options, arm, seed):
    return options.out / "runs" / str(seed) / arm.replace(", ", "_").replace(" ", "_")


def run_to_end(options, further, folder, pictures, steps, seed, changes):
    flags = {**FLAGS, "data.name": options.out / "pictures" / pictures, "training.steps": steps,
             "training.seed": seed, "run": folder, **changes}  # fmt: skip
    arguments = [part for key, value in flags.items() for part in (f"--{key}", str(value))]
    run = train(load_config([*arguments, *further]))
    if run.stopped_by:
        sys.exit(STOPPED_CODES.get(run.stopped_by, STOPPED_CODES["SIGTERM"]))
    return run


def summarize(curves):
    """For each seed and arm: the last distance, and the first step as good as the last one of each arm from scratch."""
    rows = []
    for curve in curves:
        row = {"seed": curve["seed"], "arm": curve["arm"], "last": curve["frechet_distance"][-1]}
        for other in curves:
            if other["seed"] == curve["seed"] and other["arm"].startswith("scratch"):
                goal = other["frechet_distance"][-1]
                reached = [step for step, value in zip(curve["steps"], curve["frechet_distance"]) if value <= goal]
                row[f"reaches the last of {other['arm']} at"] = min(reached, default=None)
        rows.append(row)
    return rows


def draw(options, curves, path):
    """Draws the curves, and beside them samples of each arm of the first seed after SHOWN_STEP steps."""
    figure = load_pyplot().figure(figsize=(12, 6), layout="constrained")
    grid = figure.add_gridspec(len(ARMS), 2)
    axes = figure.add_subplot(grid[:, 0])
    for curve in curves:
        number = list(ARMS).index(curve["arm"])
        label = f"from {curve['arm']}" if curve["seed"] == curves[0]["seed"] else None
        axes.plot(curve["steps"], curve["frechet_distance"], color=f"C{number}", label=label)
    axes.set(xlabel="step", ylabel="Fréchet distance of CIFAR-10 features")
    set_log_scale(axes)
    axes.set_title(f"{' and '.join(NEW_CLASSES)}, {NEW_PICTURES:,} images each", fontsize="medium")
    axes.legend()
    axes.grid(alpha=0.3)
    for number, arm in enumerate(ARMS):
        samples = Run(arm_folder(options, arm, options.seeds[0])).sample_path(SHOWN_STEP)
        if samples.is_file():
            axes = figure.add_subplot(grid[number, 1])
            axes.imshow(Image.open(samples))
            axes.set_title(
                f"from {arm}: step {SHOWN_STEP:,}, seed {options.seeds[0]}", fontsize="medium", color=f"C{number}"
            )
            axes.axis("off")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
