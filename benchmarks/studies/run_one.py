"""Trains one run of a study, or resumes it, and scores it on the way.

    python benchmarks/studies/run_one.py STUDY ARM SEED FOLDER

Writes FOLDER/run, FOLDER/scores.jsonl, and FOLDER/result.json at the end: the run is done when that exists.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from definitions import STUDIES

from sagan_tf.config import load_config
from sagan_tf.config.differences import as_yaml
from sagan_tf.data import embedded, rules
from sagan_tf.errors import STOPPED_CODES, UserError, one_line_errors
from sagan_tf.evaluation.distances import frechet_distance
from sagan_tf.experiment.train import train
from sagan_tf.files.atomic import write_text
from sagan_tf.generation.sampler import Sampler
from sagan_tf.runs.environment import describe_environment
from sagan_tf.runs.metrics_log import MetricsLog
from sagan_tf.training.callbacks import StepCallback

SAMPLES = 1000
DATA_IMAGES = 10_000  # of the test split
_POOLED_SIZE = 8  # px, as in the guard's diversity


class Scores(StepCallback):
    """Scores the averaged generator by the rule of its data, every `interval` steps and at the end.

    Beside the rule's measures, `pixel_distance` is the Fréchet distance to the test split of images averaged to 8x8 px,
    with values in [0, 1].
    """

    def __init__(self, config, path, interval):
        super().__init__(interval)
        self.data, self.steps = config.data, config.training.steps
        self.log = MetricsLog(path, path.with_suffix(".unfinished"))

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.log.truncate_after(self.first_step)
        self.sampler = Sampler(self.model.ema_generator, show_progress=False)
        data, _ = embedded.render(self.data.name, range(DATA_IMAGES), split="test", image_size=self.data.image_size)
        self.reference = pooled(data)

    def on_train_end(self, logs=None):
        if self.last_step == self.steps and self.steps % self.interval:
            self.at_interval(self.steps)

    def at_interval(self, step):
        seeds = np.arange(SAMPLES)
        labels = None if self.sampler.num_classes is None else seeds % self.sampler.num_classes
        images = self.sampler.sample(seeds, labels)
        distance = frechet_distance(pooled(images), self.reference)
        self.log.append({"step": step, **rules.score(self.data.name, images, labels), "pixel_distance": distance})


def pooled(images):
    """Averages images (N, S, S, C) in [0, 255] to 8x8 px: (N, 64 C) in [0, 1]."""
    count, size, _, channels = images.shape
    side = size // _POOLED_SIZE
    blocks = np.reshape(images, (count, _POOLED_SIZE, side, _POOLED_SIZE, side, channels))
    return blocks.mean(axis=(2, 4)).reshape(count, -1) / 255


def flags_of(study, arm, seed, folder):
    """The flags of `sagan_tf.train` for a run."""
    flags = {**study.flags, **study.arms[arm], "training.seed": seed, "run": folder / "run"}
    return [part for key, value in flags.items() for part in (f"--{key}", as_yaml(value))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", choices=[study.name for study in STUDIES])
    parser.add_argument("arm")
    parser.add_argument("seed", type=int)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    study = next(study for study in STUDIES if study.name == options.study)
    flags = flags_of(study, options.arm, options.seed, options.folder)
    options.folder.mkdir(parents=True, exist_ok=True)
    with one_line_errors("The same command continues."):
        config = load_config(flags)
        is_scored = config.data.name in embedded.NAMES
        scores = Scores(config, options.folder / "scores.jsonl", study.scored_steps)
        failure, began = None, time.time()
        try:
            run = train(config, [scores] if is_scored else [])
        except UserError as error:
            if "training diverged" not in str(error):
                raise
            failure = str(error)
        else:
            if run.stopped_by:
                sys.exit(STOPPED_CODES.get(run.stopped_by, STOPPED_CODES["SIGTERM"]))
        samples, first = (SAMPLES, 0) if is_scored else (config.evaluation.num_samples, config.training.seed + 1)
        result = {
            "study": study.name, "arm": options.arm, "seed": options.seed, "failure": failure,
            "command": ["python", "-m", "sagan_tf.train", *flags[:-2]],
            "samples": samples, "sample_seeds": [first, first + samples - 1],
            "environment": describe_environment(), "last_start_seconds": round(time.time() - began),
        }  # fmt: skip
        write_text(options.folder / "result.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
