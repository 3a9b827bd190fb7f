"""Checks that metrics of `sagan_tf.evaluate` rank cases of known order: data, degraded data, noise, training steps.

    python benchmarks/evaluation_checks.py --data_dir DIR --features cifar10_features.keras:features --run RUN

Compares CIFAR-10's test images, blurred and noisy versions of them, and pure noise with its training images. Plots the
distances, together with those in the metrics of a run with `--evaluation.interval`. Needs `pip install '.[figures]'`.
Text: docs/evaluation.md.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from reporting import describe_machine, load_pyplot, write_json

from sagan_tf.data.options import DataOptions
from sagan_tf.data.readers import ArrayReader
from sagan_tf.data.sources import open_source
from sagan_tf.evaluation.evaluator import Evaluator
from sagan_tf.evaluation.features import open_features
from sagan_tf.runs.folder import Run


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", help="folder of prepared TensorFlow Datasets")
    parser.add_argument("--features", help="as for sagan_tf.evaluate (default: Inception)")
    parser.add_argument("--run", help="run folder whose curve is plotted")
    parser.add_argument("--out", type=Path, default=Path("."))
    options = parser.parse_args()
    evaluator = Evaluator(open_features(options.features), None)
    train, test = (
        open_source(DataOptions(name="cifar10", split=split, data_dir=options.data_dir, image_size=32))
        for split in ("train", "test")
    )
    reference, results = evaluator.dataset_features(train), {}
    for name, images in degraded(test.reader.images).items():
        source = dataclasses.replace(test, reader=ArrayReader(images, test.reader.labels))
        with tempfile.TemporaryDirectory() as folder:
            features, collector = evaluator.collect_images(source, {"pictures": name}, folder + "/collecting")
            figures, _ = evaluator.metrics(features, reference)
            collector.close()
        results[name] = {figure.key: figure.value for figure in figures}
        print(f"{name:24}" + "".join(f"  {key} {value:.4g}" for key, value in results[name].items()), flush=True)
    curve = read_curve(options.run) if options.run else []
    options.out.mkdir(parents=True, exist_ok=True)
    summary = {"features": evaluator.network.about(), "pictures": results, "curve": curve}
    write_json(options.out / "evaluation_checks.json", summary | {"environment": describe_machine()})
    draw(results, curve, evaluator.network.name, options.out / "evaluation_checks.png")


def read_curve(run):
    """Returns (step, Fréchet distance) of the evaluations during training."""
    distances = ((line["step"], line.get("frechet_distance", line.get("fid"))) for line in Run.open(run).read_metrics())
    return [(step, distance) for step, distance in distances if distance is not None]


def degraded(images):
    """Name -> uint8 images, from real to pure noise."""
    rng = np.random.default_rng(0)
    result = {"test images": images}
    for radius in (0.5, 1.0, 2.0):
        blurred = [np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))) for image in images]
        result[f"blurred, {radius:g} px"] = np.stack(blurred)
    for deviation in (8, 16, 32, 64):
        noisy = images + rng.normal(0, deviation, images.shape)
        result[f"noise of {deviation} levels"] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    result["pure noise"] = rng.integers(0, 256, images.shape, dtype=np.uint8)
    return result


def draw(results, curve, features, path):
    pyplot = load_pyplot()
    figure, axes = pyplot.subplots(1, 2 if curve else 1, figsize=(11 if curve else 6, 4), squeeze=False)
    bars = axes[0][0]
    distances = [values["frechet_distance"] for values in results.values()]
    bars.barh(list(results)[::-1], distances[::-1], color="#4878a8")
    bars.set_xscale("log")
    bars.set_xlabel("Fréchet distance to the 50,000 training images")
    if curve:
        line = axes[0][1]
        line.plot(*zip(*curve), marker="o", markersize=3, color="#c0563b")
        floor = results["test images"]["frechet_distance"]
        line.axhline(floor, color="#4878a8", linewidth=1)
        line.annotate("test images", (curve[-1][0], floor), ha="right", va="bottom", color="#4878a8")
        line.set_yscale("log")
        line.set_xlabel("training step")
        line.set_ylabel("Fréchet distance of the samples")
    figure.suptitle(f"CIFAR-10, features: {features}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
