"""What a run writes into its folder as it goes on."""

import functools

from sagan_tf.runs.metrics_log import read_unfinished_line, save_unfinished_line
from sagan_tf.runs.report import write_report
from sagan_tf.training.callbacks import AttentionPictures, Checkpoints, Metrics, Report, Samples
from sagan_tf.training.tensorboard import EventFile, TensorBoard, peak_memory_gib

_ATTENDED = 3  # pictures whose attention is drawn


def recording_callbacks(config, run, manager, guard, images_a_step, latent, label, evaluations, more=()):
    """Makes the callbacks that write, in the order in which they must look at a step.

    Args:
        config: `Config`.
        run: `Run`.
        manager: tf.train.CheckpointManager.
        guard: `Guard`.
        images_a_step: int, real images that a step takes, over all replicas.
        latent: (R*C, D) float32, of the sample pictures, R rows of C.
        label: (R*C,) int32, or None without classes.
        evaluations: Function of what takes a line of metrics, that gives Keras callbacks which measure.
        more: Keras callbacks that see a step before its checkpoint is written.

    Returns:
        list of Keras callbacks.
    """
    output = config.output
    first_of_each_row = slice(0, _ATTENDED * output.sample_columns, output.sample_columns)
    few = (latent[first_of_each_row], None if label is None else label[first_of_each_row])
    events = EventFile(run.tensorboard_path)
    pictures = {"samples": run.sample_path, "attention": run.attention_picture_path}

    def record(line):
        run.append_metrics(line)
        if output.tensorboard != "none":
            values = {name: value for name, value in line.items() if name != "step"}
            events.scalars(line["step"], values | peak_memory_gib())

    return [
        Metrics(
            record, output.log_interval, images_a_step, guard, read_unfinished_line(run.unfinished_line_path),
            functools.partial(save_unfinished_line, run.unfinished_line_path),
        ),
        *evaluations(record),
        Samples(run.sample_path, output.sample_interval, latent, label, output.sample_columns),
        AttentionPictures(run.attention_picture_path, output.sample_interval, *few),
        TensorBoard(events, output.tensorboard, output.sample_interval, pictures),
        *more,
        Checkpoints(manager, output.checkpoint_interval, run.generator_path, config.training.steps),
        Report(lambda: write_report([run], run.report_path), output.sample_interval),
    ]


def write_nothing(line):
    """What workers but the chief do with a line of metrics.

    Args:
        line: dict, as `Metrics` writes it.
    """
