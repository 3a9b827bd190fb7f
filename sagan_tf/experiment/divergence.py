"""Divergence and collapse: back to the last good checkpoint, with lower learning rates."""

import math

from sagan_tf.errors import UserError


def rate_factor(run):
    """Product of the learning-rate factors of all recoveries of a run."""
    return math.prod(recovery["rate_factor"] for recovery in run.recoveries())


def prepare_recovery(options, run, failure, writes):
    """Records a recovery from a `TrainingFailure`; raises UserError if the `GuardConfig` allows none."""
    policy = options.on_divergence if failure.kind == "divergence" else options.on_collapse
    count = len(run.recoveries())
    if policy != "recover" or count >= options.max_recoveries:
        tried = f" {count} recoveries did not help." if policy == "recover" else ""
        raise UserError(
            f"{failure}{tried} The last good checkpoint is in {run.checkpoints_path}; --guard.on_{failure.kind} "
            "recover returns to it and continues with lower learning rates."
        )
    if writes:
        run.add_recovery(failure.kind, failure.step, options.rate_factor)
    print(f"Recovery {count + 1}: {failure} Returning to the last checkpoint; learning rates times "
          f"{options.rate_factor:g}.")
