"""Options that shape a training step: arguments of `SAGAN.compile`, which the config repeats under `training`."""

from sagan_tf.errors import check_positive_int

# Ranges: how an error line says it, and whether a number is in it.
AT_LEAST_ZERO = ("at least 0", lambda x: x >= 0)
AT_LEAST_ONE = ("at least 1", lambda x: x >= 1)
DECAY = ("at least 0 and below 1", lambda x: 0 <= x < 1)

# Name -> its range, or None.
STEP_OPTIONS = {
    "d_steps": AT_LEAST_ONE,
    "accumulation_steps": AT_LEAST_ONE,
    "r1_weight": AT_LEAST_ZERO,
    "r2_weight": AT_LEAST_ZERO,
    "r1_interval": AT_LEAST_ONE,
    "lecam_weight": AT_LEAST_ZERO,
    "lecam_decay": DECAY,
    "lecam_start_step": AT_LEAST_ONE,
    "consistency_real_weight": AT_LEAST_ZERO,
    "consistency_fake_weight": AT_LEAST_ZERO,
    "ada_target": DECAY,
    "ada_images": AT_LEAST_ONE,
    "share_fake_batch": None,
}


def check_step_options(options):
    """Raises ValueError if a value of `options`, a dict of all `STEP_OPTIONS`, is out of range or excludes another."""
    for name, allowed_range in STEP_OPTIONS.items():
        value = options[name]
        if allowed_range is AT_LEAST_ONE:
            check_positive_int(name, value)
        elif allowed_range is not None and not allowed_range[1](value):
            raise ValueError(f"`{name}` must be {allowed_range[0]}. Received: {name}={value!r}.")
    if options["share_fake_batch"] and options["accumulation_steps"] > 1:
        received = options["accumulation_steps"]
        raise ValueError(f"`share_fake_batch` needs `accumulation_steps` 1. Received: accumulation_steps={received}.")
