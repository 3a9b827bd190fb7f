"""Options that shape a training step: arguments of `SAGAN.compile`, which the config repeats under `training`."""

from sagan_tf.errors import check_positive_int


def _check_weight(name, value):
    if not value >= 0:
        raise ValueError(f"`{name}` must be >= 0. Received: {name}={value!r}.")


def _check_decay(name, value):
    if not 0 <= value < 1:
        raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={value!r}.")


# Name -> check of its value, or None.
STEP_OPTIONS = {
    "d_steps": check_positive_int,
    "accumulation_steps": check_positive_int,
    "r1_weight": _check_weight,
    "r2_weight": _check_weight,
    "r1_interval": check_positive_int,
    "lecam_weight": _check_weight,
    "lecam_decay": _check_decay,
    "lecam_start_step": check_positive_int,
    "consistency_real_weight": _check_weight,
    "consistency_fake_weight": _check_weight,
    "ada_target": _check_decay,
    "ada_images": check_positive_int,
    "share_fake_batch": None,
}


def check_step_options(options):
    """Raises ValueError if a value of `options`, a dict of all `STEP_OPTIONS`, is out of range or excludes another."""
    for name, check in STEP_OPTIONS.items():
        if check is not None:
            check(name, options[name])
    if options["share_fake_batch"] and options["accumulation_steps"] > 1:
        received = options["accumulation_steps"]
        raise ValueError(f"`share_fake_batch` needs `accumulation_steps` 1. Received: accumulation_steps={received}.")
