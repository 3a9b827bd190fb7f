"""The range of every number in a config, and checks of single values."""

import math
import unicodedata

from sagan_tf.errors import UserError
from sagan_tf.training.step_options import AT_LEAST_ONE, AT_LEAST_ZERO, DECAY, STEP_OPTIONS


class ConfigError(UserError):
    """A field has an invalid value.

    Args:
        key: Full path of the field, such as `training.batch_size`.
        problem: What is wrong with it; it follows the key in the message.
    """

    def __init__(self, key, problem):
        super().__init__(f"`{key}` {problem}")
        self.key = key


POSITIVE = ("above 0", lambda x: x > 0)
FACTOR = ("above 0 and at most 1", lambda x: 0 < x <= 1)
UP_TO_256 = ("from 1 to 256", lambda x: 1 <= x <= 256)
SEED = ("from 0 to 4294967295", lambda x: 0 <= x < 2**32)

_LARGEST = 2**31 - 1  # of whole numbers without another bound: the frameworks have 32-bit counters

_OPTIMIZER_RANGES = {
    "learning_rate": POSITIVE,
    "beta_1": DECAY,
    "beta_2": DECAY,
    "epsilon": POSITIVE,
    "warmup_steps": AT_LEAST_ZERO,
    "decay_start_step": AT_LEAST_ZERO,
    "final_learning_rate": AT_LEAST_ZERO,
}

RANGES = {
    "data.image_size": AT_LEAST_ONE,
    "data.image_height": AT_LEAST_ONE,
    "data.image_width": AT_LEAST_ONE,
    "data.image_channels": ("1 or 3", lambda x: x in (1, 3)),
    "data.memory_limit_gib": AT_LEAST_ZERO,
    "generator.channels": AT_LEAST_ONE,
    "generator.initial_channels": AT_LEAST_ONE,
    "generator.latent_dim": AT_LEAST_ONE,
    "generator.attention_sizes": AT_LEAST_ONE,
    "generator.batch_normalization_momentum": DECAY,
    "generator.batch_normalization_epsilon": POSITIVE,
    "generator.frozen_blocks": AT_LEAST_ZERO,
    "discriminator.channels": AT_LEAST_ONE,
    "discriminator.attention_sizes": AT_LEAST_ONE,
    "discriminator.frozen_blocks": AT_LEAST_ZERO,
    "attention.key_reduction": AT_LEAST_ONE,
    "attention.value_reduction": AT_LEAST_ONE,
    "attention.pool_size": AT_LEAST_ONE,
    **{f"generator_optimizer.{name}": allowed for name, allowed in _OPTIMIZER_RANGES.items()},
    **{f"discriminator_optimizer.{name}": allowed for name, allowed in _OPTIMIZER_RANGES.items()},
    "training.steps": AT_LEAST_ONE,
    "training.batch_size": AT_LEAST_ONE,
    **{f"training.{name}": allowed for name, allowed in STEP_OPTIONS.items() if allowed is not None},
    "training.ema_decay": DECAY,
    "training.ema_start_step": AT_LEAST_ZERO,
    "training.ema_statistics_interval": AT_LEAST_ZERO,
    "training.seed": SEED,
    "hardware.replicas": UP_TO_256,
    "hardware.steps_per_execution": AT_LEAST_ONE,
    "hardware.wait_minutes": POSITIVE,
    "output.log_interval": AT_LEAST_ONE,
    "output.sample_interval": AT_LEAST_ONE,
    "output.checkpoint_interval": AT_LEAST_ONE,
    "output.checkpoints_to_keep": AT_LEAST_ONE,
    "output.sample_rows": UP_TO_256,
    "output.sample_columns": UP_TO_256,
    "evaluation.interval": AT_LEAST_ZERO,
    "evaluation.num_samples": ("at least 20", lambda x: x >= 20),
    "guard.rate_factor": FACTOR,
    "guard.max_recoveries": AT_LEAST_ZERO,
}


def check_value(key, value):
    """Raises `ConfigError` if a number is out of its range, or a text is empty or has control characters."""
    items = value if isinstance(value, tuple | list) else (value,)
    for item in items:
        if isinstance(item, str):
            _check_text(key, item)
        elif isinstance(item, int | float) and not isinstance(item, bool):
            _check_number(key, item)
    if len(set(items)) < len(items):
        raise ConfigError(key, f"lists a value twice. Got {list(items)}.")


def _check_text(key, text):
    if not text.strip():
        raise ConfigError(key, "is empty.")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise ConfigError(key, f"has a control character or broken text. Got {text!r}.")


def _check_number(key, number):
    allowed_range, allowed = RANGES[key]
    if isinstance(number, float) and not math.isfinite(number) or not allowed(number):
        raise ConfigError(key, f"must be {allowed_range}. Got {number}.")
    if isinstance(number, int) and number > _LARGEST and RANGES[key] is not SEED:
        raise ConfigError(key, f"must be at most {_LARGEST}. Got {number}.")
