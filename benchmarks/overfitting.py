"""Measures how far the discriminators of runs have memorized their training images.

    python benchmarks/overfitting.py RUN... --held_out test --out overfitting.json

r_v = (E[D(train)] - E[D(held out)]) / (E[D(train)] - E[D(generated)]) at the newest checkpoint (Karras et al. 2020,
equation 1, https://arxiv.org/abs/2006.06676): 0 where held-out images get the logits of training images, 1 where they
get those of generated ones. The generated images are the averaged generator's, seeds 0 to N - 1, labels in turn.
Images are not augmented, whatever the run's augmentation.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from reporting import describe_machine, markdown_table, write_json

from sagan_tf.data.sources import open_source
from sagan_tf.errors import UserError, one_line_errors
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.generation.pixels import from_levels
from sagan_tf.generation.sampler import Sampler
from sagan_tf.runs.data_check import has_classes_of
from sagan_tf.runs.folder import Run

BATCH = 100


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders with a checkpoint")
    parser.add_argument("--held_out", default="test", help="split of images that they were not trained on")
    parser.add_argument("--images", type=int, default=5_000, help="images of each kind, at most")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()
    with one_line_errors():
        results = [measure(Run.open(path), options) for path in options.runs]
        write_json(options.out, {"images": options.images, "runs": results, "environment": describe_machine()})
    print(markdown_table(list(results[0]), [list(result.values()) for result in results]))


def measure(run, options):
    networks, data = restore_networks(run, discriminator=True), run.config().data
    logits = {}
    for name, split in (("train", data.split), ("held_out", options.held_out)):
        source = open_source(replace(data, split=split))
        if not has_classes_of(run, source.class_names):
            raise UserError(f"{source.name}: the split {split} does not have the classes of {run.path}.")
        logits[name] = mean_logit(networks, *real(source, options.images))
    logits["generated"] = mean_logit(networks, *generated(networks, options.images))
    overfitting = (logits["train"] - logits["held_out"]) / (logits["train"] - logits["generated"])
    values = {name: round(value, 4) for name, value in (*logits.items(), ("r_v", overfitting))}
    return {"run": "/".join(run.path.parts[-3:]), "step": networks.step, **values}


def real(source, count):
    """At most `count` images, uint8, and labels; evenly spread, because folders are in the order of their classes."""
    chosen = np.linspace(0, source.num_images - 1, min(count, source.num_images)).astype(int)
    labels = source.reader.labels
    return source.reader.load(chosen), None if labels is None else labels[chosen]


def generated(networks, count):
    seeds = np.arange(count)
    labels = None if networks.num_classes is None else seeds % networks.num_classes
    return Sampler(networks.generator, show_progress=False).sample(seeds, labels), labels


def mean_logit(networks, images, labels):
    logits = []
    for part in (slice(first, first + BATCH) for first in range(0, len(images), BATCH)):
        inputs = from_levels(images[part])
        inputs = inputs if networks.num_classes is None else [inputs, labels[part]]
        logits.append(np.asarray(networks.discriminator(inputs, training=False)))
    return float(np.mean(np.concatenate(logits)))


if __name__ == "__main__":
    main()
