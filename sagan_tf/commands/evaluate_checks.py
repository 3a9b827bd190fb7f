"""Refuses options of `evaluate` that have no effect beside the others."""

from sagan_tf.commands.options import EvaluateOptions
from sagan_tf.errors import UserError

_OF_RUNS = ("num_samples", "seed", "truncation", "truncation_curve", "labels", "step", "best", "standing")
_OF_FEATURES = ("features", "inception", "inception_sha256", "pixel_range", "refresh")
_OF_DATA = ("split", "data_dir", "manual_dir", "download", "allow_data_change", "num_reference", "refresh")


def is_set(options, name):
    """Whether an option has another value than its default."""
    return getattr(options, name) != getattr(EvaluateOptions, name)


def refuse_run_options(options):
    """Raises UserError if `EvaluateOptions` set what only a run has."""
    for name in _OF_RUNS:
        if is_set(options, name):
            raise UserError(f"--{name}: a folder of images has no latents; name a run, or leave the option out.")


def refuse_data_options(options):
    """Raises UserError if `EvaluateOptions` set what a reference that is a file of statistics has already."""
    for name in _OF_DATA:
        if is_set(options, name):
            raise UserError(f"--{name}: a file of statistics is not a data set; name one, or leave the option out.")


def refuse_feature_options(options, metrics):
    """Raises UserError if `EvaluateOptions` set what the chosen metrics of features, a list of names, do not need."""
    for name in _OF_FEATURES:
        if not metrics and is_set(options, name):
            raise UserError(f"--{name}: is for metrics of features; add one, such as fid, or leave the option out.")
    if options.at_infinity and "fid" not in metrics:
        raise UserError("--at_infinity: extrapolates fid; add it to --metrics, or leave the option out.")


def refuse_network_options(options):
    """Raises UserError if `EvaluateOptions` set what the chosen feature network does not take."""
    if options.features is None and is_set(options, "pixel_range"):
        raise UserError("--pixel_range: is for the network of --features; name it, or leave the option out.")
    for name in ("inception", "inception_sha256"):
        if options.features is not None and is_set(options, name):
            raise UserError(f"--{name}: --features replaces Inception; give one or the other.")
