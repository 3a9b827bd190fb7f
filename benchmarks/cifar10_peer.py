"""Compares training with BigGAN-PyTorch's: the same networks, pictures, batches and rates, scored by the same features.

    python benchmarks/cifar10_features.py --data_dir DIR --out cifar10_features.keras
    python benchmarks/cifar10_peer.py --data_dir DIR --features cifar10_features.keras:features \
        --torch_python .venv-torch/bin/python --out OUT

For each seed, it trains `configs/cifar10_small.yaml` and the peer (`peers/biggan_pytorch_training.py`), one after the
other. Every --interval steps it computes the Frechet distance of --samples samples of the averaged generator to the
training pictures. Writes OUT/result.json and OUT/curves.png; the same command resumes. Run nothing beside it: PyTorch's
threads wait for each other when they share cores.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from reporting import describe_machine, load_pyplot, write_json

from sagan_tf.config import Config, config_differences, load_config
from sagan_tf.config.checks import flat_fields
from sagan_tf.config.fields import OptimizerConfig, TrainingConfig
from sagan_tf.data.sources import open_source
from sagan_tf.errors import STOPPED_CODES, UserError, one_line_errors
from sagan_tf.evaluation.distances import frechet_distance_of_moments
from sagan_tf.evaluation.evaluator import Evaluator
from sagan_tf.evaluation.features import open_features
from sagan_tf.evaluation.moments import Moments
from sagan_tf.experiment.build import build_networks
from sagan_tf.experiment.precision import native_precision
from sagan_tf.experiment.train import train
from sagan_tf.networks.architectures import (
    DISCRIMINATOR_DOWNSAMPLING,
    DISCRIMINATOR_MULTIPLIERS,
    GENERATOR_MULTIPLIERS,
)

ROOT = Path(__file__).resolve().parents[1]
PEER = ROOT / "benchmarks" / "peers" / "biggan_pytorch_training.py"
COLORS = {"sagan_tf": "C0", "BigGAN-PyTorch": "C1"}
BATCH = 500
CLASSES = 10
# What the peer takes from our config, and what it has itself. All else must be as in a default config.
NETWORKS = ("generator", "discriminator")
OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")
# Left out of the config, since the peer does not have it.
NOT_IN_PEER = {
    "training.share_fake_batch": False,
    "training.ema_start_step": TrainingConfig.ema_start_step,
    **{f"{optimizer}.{name}": getattr(OptimizerConfig, name) for optimizer in OPTIMIZERS
       for name in ("schedule", "decay_start_step")},
}  # fmt: skip
EQUAL = {
    "discriminator.attention_sizes": "generator.attention_sizes",
    **{f"discriminator_optimizer.{name}": f"generator_optimizer.{name}" for name in ("beta_1", "beta_2")},
}
TAKEN = {
    *(f"{network}.{name}" for network in NETWORKS for name in ("channels", "attention_sizes")),
    *(f"{optimizer}.{name}" for optimizer in OPTIMIZERS for name in ("learning_rate", "beta_1", "beta_2")),
    *(f"training.{name}" for name in ("steps", "batch_size", "ema_decay", "seed")),
}
PEER_VALUES = {
    "generator.batch_normalization_momentum": 0.9,
    **{f"{network}.kernel_initializer": "orthogonal" for network in NETWORKS},
}
WITHOUT_EFFECT = {"run", "data", "hardware", "output", "guard", "evaluation"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", help="folder of prepared TensorFlow Datasets")
    parser.add_argument("--features", required=True, metavar="PATH:NAME", help="Keras file and layer")
    parser.add_argument("--torch_python", required=True, help="a Python with PyTorch and NumPy")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, kept between starts")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=5000, help="a multiple of --interval")
    parser.add_argument("--interval", type=int, default=1000, help="steps between two distances")
    parser.add_argument("--samples", type=int, default=10_000, help="generated pictures of a distance")
    options = parser.parse_args()
    if options.interval < 1 or options.steps < 1 or options.steps % options.interval:
        parser.error(f"--steps must be a multiple of --interval. Received: {options.steps} and {options.interval}")
    with one_line_errors("The same command continues."):
        load_pyplot()  # before hours of training
        options.out.mkdir(parents=True, exist_ok=True)
        peer, curves = Peer(options), []
        for seed in options.seeds:
            curves += [train_ours(options, seed), peer.train(seed)]
            result = {"options": {**vars(options), "out": None, "data_dir": None, "torch_python": None},
                      "curves": curves, "environment": describe_machine()}  # fmt: skip
            write_json(options.out / "result.json", result)
            draw(curves, options.out / "curves.png")
    print(json.dumps(curves, indent=1))


def our_config(options, seed):
    """The config of our run; the peer takes what it says of networks, batches and rates."""
    flags = {
        "config": ROOT / "configs" / "cifar10_small.yaml",
        **NOT_IN_PEER,
        "data.data_dir": options.data_dir,
        "training.steps": options.steps,
        "training.seed": seed,
        "hardware.precision": native_precision()[0],
        "evaluation.interval": options.interval,
        "evaluation.features": options.features,
        "evaluation.num_samples": options.samples,
        "output.checkpoints_to_keep": 1,
        "output.tensorboard": "none",
        "run": options.out / "runs" / str(seed) / "sagan_tf",
    }
    return load_config([part for key, value in flags.items() for part in (f"--{key}", str(value))])


def train_ours(options, seed):
    """Trains what is missing; returns the curve of its distances."""
    run = train(our_config(options, seed))
    if run.stopped_by:
        sys.exit(STOPPED_CODES.get(run.stopped_by, STOPPED_CODES["SIGTERM"]))
    lines = [line for line in run.read_metrics() if "frechet_distance" in line]
    return curve("sagan_tf", seed, {line["step"]: line["frechet_distance"] for line in lines})


def curve(name, seed, distances):
    return {"name": name, "seed": seed, "steps": list(distances), "frechet_distance": list(distances.values())}


class Peer:
    """The peer's runs, which take their settings from ours."""

    def __init__(self, options):
        self.options = options
        self.pictures = options.out / "pictures.npz"
        self.network = open_features(options.features)
        source = open_source(our_config(options, 0).data)
        self.reference = Evaluator(self.network, None).dataset_features(source).moments
        if not self.pictures.exists():
            batches = list(source.reader.in_order_batches(BATCH))
            images, labels = (np.concatenate([np.asarray(batch[i]) for batch in batches]) for i in range(2))
            unfinished = self.pictures.with_suffix(".unfinished.npz")
            np.savez(unfinished, images=images, labels=labels)
            os.replace(unfinished, self.pictures)

    def train(self, seed):
        """Trains what is missing; returns the curve of its distances."""
        out = self.options.out / "runs" / str(seed) / "biggan_pytorch"
        out.mkdir(parents=True, exist_ok=True)
        specification = out / "specification.json"
        write_json(specification, self.specification(seed, out))
        steps = range(self.options.interval, self.options.steps + 1, self.options.interval)
        if not (out / f"{steps[-1]}.npz").exists():
            code = subprocess.run([self.options.torch_python, PEER, specification]).returncode
            if code:
                raise UserError(f"the peer failed with code {code}; its message is above.")
        return curve("BigGAN-PyTorch", seed, {step: self.distance(out / f"{step}.npz") for step in steps})

    def specification(self, seed, out):
        config = our_config(self.options, seed)
        generator, discriminator, training = config.generator, config.discriminator, config.training
        optimizers = config.generator_optimizer, config.discriminator_optimizer
        check_same_as_peer(config)
        networks = zip(NETWORKS, build_networks(config, CLASSES))
        counts = {name: sum(math.prod(w.shape) for w in network.trainable_weights) for name, network in networks}
        size = config.data.image_size
        return {
            "image_size": size, "num_classes": CLASSES, "latent_dim": generator.latent_dim, "parameters": counts,
            "channels": generator.channels, "discriminator_channels": discriminator.channels,
            "attention_size": generator.attention_sizes[0], "generator": GENERATOR_MULTIPLIERS[size],
            "discriminator": DISCRIMINATOR_MULTIPLIERS[size], "down": DISCRIMINATOR_DOWNSAMPLING[size],
            "batch": training.batch_size, "steps": training.steps, "decay": training.ema_decay,
            "rates": [optimizer.learning_rate for optimizer in optimizers],
            "betas": [optimizers[0].beta_1, optimizers[0].beta_2],
            "flip": config.data.flip, "bfloat16": config.hardware.precision == "mixed_bfloat16",
            "threads": len(os.sched_getaffinity(0)), "seed": seed, "interval": self.options.interval,
            "samples": self.options.samples, "pictures": str(self.pictures.resolve()), "out": str(out.resolve()),
        }  # fmt: skip

    def distance(self, path):
        """Frechet distance of the samples in a file to the training pictures."""
        images = np.load(path)["images"]
        features = [self.network(tf.constant(images[i : i + BATCH]))[0] for i in range(0, len(images), BATCH)]
        return frechet_distance_of_moments(Moments.of(np.concatenate(features)), self.reference)


def check_same_as_peer(config):
    """Refuses settings that the peer does not have."""
    values = dict(flat_fields(config))
    wrong = {key for key, value in PEER_VALUES.items() if values[key] != value}
    wrong |= {key for key, other in EQUAL.items() if values[key] != values[other]}
    if len(config.generator.attention_sizes) != 1:
        wrong.add("generator.attention_sizes")
    changed = {line.partition(":")[0] for line in config_differences(Config(), config)}
    wrong |= {key for key in changed - TAKEN - PEER_VALUES.keys() if key.partition(".")[0] not in WITHOUT_EFFECT}
    if wrong:
        raise UserError(f"configs/cifar10_small.yaml: the peer has other settings of {'; '.join(sorted(wrong))}.")


def draw(curves, path):
    figure, axes = load_pyplot().subplots(figsize=(7, 4), layout="constrained")
    for drawn in curves:
        label = drawn["name"] if drawn["seed"] == curves[0]["seed"] else None
        axes.plot(drawn["steps"], drawn["frechet_distance"], "o-", color=COLORS[drawn["name"]], label=label)
    axes.set(xlabel="step", ylabel="Fréchet distance of CIFAR-10 features", ylim=(0, None))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
