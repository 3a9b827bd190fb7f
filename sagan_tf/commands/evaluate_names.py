"""File names of the results of `evaluate`, and the description of the generator."""

import os

from sagan_tf.commands.evaluate_checks import is_set
from sagan_tf.commands.options import TRUNCATION_CURVE
from sagan_tf.data import embedded
from sagan_tf.evaluation.evaluator import file_name_part
from sagan_tf.evaluation.standing_statistics import BATCH_SIZE
from sagan_tf.files.hashing import sha256_of_parts

_LONGEST_STEM = 160  # bytes; file systems allow 255 per name, with suffixes


def describe_generator(run, networks, options, weights):
    """Identifies a generator: dict of JSON values; `weights` is the SHA-256 of its weights."""
    decay = run.config().training.ema_decay
    average = "last weights" if decay is None else f"average of the weights (EMA), decay {decay:g}"
    best = ", best of the evaluations during training" if options.best else ""
    standing = f"statistics of {options.standing} new batches of {BATCH_SIZE}"
    return {
        "run": run.name,
        "generator": f"{average}{best}, step {networks.step}",
        "step": networks.step,
        "weights_sha256": weights,
        "batch_normalization": standing if options.standing else "moving statistics of training",
    }


def run_stem(run_name, weights, step, features, options):
    """File name, without suffix, of the result of a run, with the options that change its numbers.

    In a folder of --out, which may hold the results of several runs, it ends with the name of the run and the first
    digits of `weights`, the SHA-256 of the generator's weights.
    """
    best = "best_" if options.best else ""
    source = [] if options.out is None else [f"run_{file_name_part(run_name)}_{weights[:8]}"]
    return _stem([f"{best}step_{step or 0:08d}", features, *_parts(options), *_further_parts(options), *source])


def folder_stem(folder, features, options):
    """File name, without suffix, of the result of a folder of images, a pathlib.Path."""
    return _stem([_place(folder), features, *_further_parts(options)])


def beside(stem, suffix):
    """Path of a file that belongs to a result: `stem` is its pathlib.Path without suffix."""
    return stem.with_name(f"{stem.name}{suffix}")


def _stem(parts):
    """Joins parts of a file name; of a long name, a hash stands for the end."""
    name = "-".join(parts).encode()
    if len(name) <= _LONGEST_STEM:
        return name.decode()
    return f"{name[:_LONGEST_STEM].decode(errors='ignore')}-{sha256_of_parts([name])[:16]}"


def _place(path):
    """A path as part of a file name; a hash tells apart folders and files of one name."""
    place = os.path.realpath(path)
    return f"{file_name_part(os.path.basename(place))}_{sha256_of_parts([os.fsencode(place)])[:8]}"


def _distinct_part(text):
    """A name as part of a file name; a hash tells apart those of which it leaves out something."""
    part = file_name_part(text)
    return part if part == text else f"{part}_{sha256_of_parts([text.encode()])[:8]}"


def features_name(network):
    """File name of a `FeatureNetwork`, or of pixels where it is None; a hash tells networks of one name apart."""
    return "pixels" if network is None else f"{file_name_part(network.name)}_{network.sha256[:8]}"


def _parts(options):
    texts = {"standing": "standing_{}", "truncation": "truncation_{:g}", "num_samples": "count_{}", "seed": "seed_{}",
             "labels": "labels_{}"}  # fmt: skip
    parts = [text.format(getattr(options, name)) for name, text in texts.items() if is_set(options, name)]
    curve = tuple(sorted(set(options.truncation_curve)))
    values = [] if curve == TRUNCATION_CURVE else [f"{truncation:g}" for truncation in curve]
    return parts + (["_".join(["curve", *values])] if curve else [])


def _further_parts(options):
    parts = []
    if is_set(options, "reference"):
        is_name = options.reference in embedded.NAMES or not os.path.exists(options.reference)
        parts += [f"against_{_distinct_part(options.reference) if is_name else _place(options.reference)}"]
    parts += [f"split_{_distinct_part(options.split)}"] if is_set(options, "split") else []
    for name in ("image_size", "image_height", "image_width", "pixel_range", "num_reference"):
        parts += [f"{name}_{file_name_part(getattr(options, name))}"] if is_set(options, name) else []
    parts += ["at_infinity"] if options.at_infinity else []
    return parts + (["_".join(sorted(set(options.metrics)))] if is_set(options, "metrics") else [])
