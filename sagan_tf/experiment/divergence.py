"""Divergence and collapse: back to the last good checkpoint, with lower learning rates."""

import math

from sagan_tf.errors import UserError


def rate_factor(run):
    """Product of the learning-rate factors of all recoveries of a run."""
    return math.prod(recovery["rate_factor"] for recovery in run.recoveries())


def prepare_recovery(options, run, failure, count, writes):
    """Records a recovery from a `TrainingFailure`; raises UserError if the `GuardConfig` allows none.

    Args:
        options: `GuardConfig`.
        run: `Run`.
        failure: `TrainingFailure`.
        count: int, recoveries before it. The chief may have recorded this one already.
        writes: bool. Whether this worker records it.
    """
    policy = options.on_divergence if failure.kind == "divergence" else options.on_collapse
    if policy != "recover" or count >= options.max_recoveries:
        raise UserError(f"{failure} {_advice(run, failure.kind, policy, count)}")
    if writes:
        run.add_recovery(failure.kind, failure.step, options.rate_factor)
    start = "the last checkpoint" if run.checkpoint_steps() else "the start"
    print(f"Recovery {count + 1}: {failure} Returning to {start}; learning rates times {options.rate_factor:g}.")


def _advice(run, kind, policy, recoveries):
    """What can be done after a failure, in one or two sentences."""
    has_checkpoint = bool(run.checkpoint_steps())
    place = f"The last good checkpoint is in {run.checkpoints_path}." if has_checkpoint else "No checkpoint exists yet."
    if policy == "recover" and not recoveries:
        return f"guard.max_recoveries, 0, allows no recovery. {place}"
    if policy == "recover":
        return f"{recoveries} recoveries did not help. {place}"
    start = "it" if has_checkpoint else "the start"
    return f"{place} --guard.on_{kind} recover returns to {start} and continues with lower learning rates."
