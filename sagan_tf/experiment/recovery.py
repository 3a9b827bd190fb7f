"""Going back to the last good checkpoint with lower learning rates, as often as the config allows."""

import math

from sagan_tf.errors import UserError


def rate_factor(run):
    """What the learning rates of a run are multiplied by after all its recoveries; a float."""
    return math.prod(one["rate_factor"] for one in run.recoveries())


def prepare_recovery(options, run, failure, writes):
    """Lowers the learning rates for another try from the last good checkpoint, or ends the run.

    Args:
        options: `GuardConfig`.
        run: `Run`.
        failure: `TrainingFailure`.
        writes: bool. Whether this worker writes.

    Raises:
        UserError: The config says to stop, or has said to recover often enough.
    """
    policy = options.on_divergence if failure.kind == "divergence" else options.on_collapse
    made = len(run.recoveries())
    if policy != "recover" or made >= options.max_recoveries:
        tried = f" {made} recoveries have not helped." if policy == "recover" else ""
        raise UserError(
            f"{failure}{tried} The last good checkpoint is in {run.checkpoints_path}; --guard.on_{failure.kind} "
            "recover goes back to it and on with lower learning rates."
        )
    if writes:
        run.add_recovery(failure.kind, failure.step, options.rate_factor)
    print(f"Recovery {made + 1}: {failure} Going back, learning rates times {options.rate_factor:g}.")
