"""What a run writes into its folder as it goes on."""

from sagan_tf.runs.report import write_report
from sagan_tf.training.callbacks import AttentionPictures, Checkpoints, Metrics, Report, Samples
from sagan_tf.training.tensorboard import EventFile, TensorBoard, peak_memory_gib

_ATTENDED = 3  # pictures whose attention is drawn


def recording_callbacks(config, run, manager, guard, images_a_step, seeds, labels, evaluations, more=()):
    """Makes the callbacks that write, in the order in which they must look at a step.

    Args:
        config: `Config`.
        run: `Run`.
        manager: tf.train.CheckpointManager.
        guard: `Guard`.
        images_a_step: int, real images that a step takes, over all replicas.
        seeds: (R*C,) ints, of the sample grid, R rows of C.
        labels: (R*C,) ints, or None without classes.
        evaluations: Function of what takes a line of metrics, that gives Keras callbacks which measure.
        more: Keras callbacks that see a step before its checkpoint is written.

    Returns:
        list of Keras callbacks.
    """
    output = config.output
    first_of_each_row = slice(0, _ATTENDED * output.sample_columns, output.sample_columns)
    few = (seeds[first_of_each_row], None if labels is None else labels[first_of_each_row])
    events = EventFile(run.tensorboard_path)
    pictures = {"samples": run.sample_path, "attention": run.attention_picture_path}

    log = MetricsRecorder(run, None if output.tensorboard == "none" else events)
    return [
        Metrics(log, output.log_interval, images_a_step, guard),
        *evaluations(log.append),
        Samples(run.sample_path, output.sample_interval, seeds, labels, output.sample_columns),
        AttentionPictures(run.attention_picture_path, output.sample_interval, *few),
        TensorBoard(events, output.tensorboard, output.sample_interval, pictures),
        *more,
        Checkpoints(manager, output.checkpoint_interval, run.generator_path, config.training.steps),
        Report(lambda: write_report([run], run.report_path), output.sample_interval),
    ]


class MetricsRecorder:
    """Writes metrics lines to the run folder and to TensorBoard.

    Args:
        run: `Run`.
        events: `EventFile`, or None.
        writes: bool. False on workers other than the chief, which write nothing.
    """

    def __init__(self, run, events=None, writes=True):
        self.run, self.events, self.writes = run, events, writes

    def append(self, line):
        """Writes a line, a dict with `step` and numbers by name."""
        if self.writes:
            self.run.metrics_log.append(line)
        if self.events is not None:
            values = {name: value for name, value in line.items() if name != "step"}
            self.events.scalars(line["step"], values | peak_memory_gib())

    def read_unfinished(self):
        """Reads the means of a line that an earlier process had begun, or None."""
        return self.run.metrics_log.read_unfinished()

    def save_unfinished(self, unfinished):
        """Saves the means of a line that is not due yet."""
        if self.writes:
            self.run.metrics_log.save_unfinished(unfinished)
