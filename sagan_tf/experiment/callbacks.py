"""The callbacks of a run, in the order in which they see a step."""

import os

from tqdm.auto import tqdm

from sagan_tf.errors import UserError
from sagan_tf.evaluation.standing_statistics import set_standing_statistics
from sagan_tf.experiment.checkpoints import Checkpoints
from sagan_tf.experiment.online_evaluation import OnlineEvaluation
from sagan_tf.generation.sampler import Sampler, grid_seeds
from sagan_tf.runs.report import write_report
from sagan_tf.training.callbacks import Report, StepCallback
from sagan_tf.training.guard import GROUPS, SAMPLES, FailureSigns, Guard
from sagan_tf.training.image_callbacks import AttentionImages, Samples
from sagan_tf.training.metrics import Metrics
from sagan_tf.training.tensorboard import EventFile, TensorBoard, peak_memory_gib

_ATTENTION_IMAGES = 3  # per file
_STATISTICS_BATCHES = 32


def make_callbacks(config, run, gan, source, manager, callbacks=()):
    """Makes the callbacks of a run.

    Args:
        config: `Config`.
        run: `Run`.
        gan: Compiled SAGAN.
        source: `data.sources.Source` of the training data.
        manager: tf.train.CheckpointManager; None on workers other than the chief, which write nothing.
        callbacks: Further Keras callbacks; they see a step before its checkpoint is written.

    Returns:
        list of Keras callbacks, in the order in which they must see a step.
    """
    output, is_chief = config.output, manager is not None
    events = EventFile(run.tensorboard_path)
    log = MetricsRecorder(run.metrics_log, events if output.tensorboard != "none" else None, is_chief)
    chosen = [Metrics(log, output.log_interval, config.training.images_per_step, make_guard(config, gan, run))]
    if config.training.ema_decay is not None and config.training.ema_statistics_interval:
        chosen.append(AverageStatistics(config.training.ema_statistics_interval))
    if config.evaluation.interval:
        chosen.append(OnlineEvaluation(config, run, gan, source, log))
    if not is_chief:
        return chosen
    num_rows = min(output.sample_rows, gan.num_classes or output.sample_rows)
    seeds, labels = grid_seeds(num_rows, output.sample_columns, gan.num_classes)
    titles = () if gan.num_classes is None else source.class_names[:num_rows]
    row_starts = slice(0, _ATTENTION_IMAGES * output.sample_columns, output.sample_columns)
    attended = seeds[row_starts], None if labels is None else labels[row_starts], titles
    pictures = {"samples": run.sample_path, "attention": run.attention_picture_path}
    return [
        FolderCheck(run.path),
        *chosen,
        Samples(run.sample_path, output.sample_interval, seeds, labels, output.sample_columns, titles),
        AttentionImages(run.attention_picture_path, output.sample_interval, *attended),
        TensorBoard(events, output.tensorboard, output.sample_interval, pictures),
        *callbacks,
        Checkpoints(manager, output.checkpoint_interval, run.generator_path, config.training.steps),
        Report(lambda: write_report([run], run.report_path), output.sample_interval),
    ]


def make_guard(config, gan, run):
    """Makes the guard of a run, which continues from the metrics lines of earlier processes."""
    seeds, labels = grid_seeds(GROUPS, SAMPLES // GROUPS, gan.num_classes)
    sampler = Sampler(gan.generator, SAMPLES, outputs=lambda images: (images,), show_progress=False)
    signs = failure_signs(run)
    return Guard(lambda: sampler.sample(seeds, labels), config.guard.on_collapse != "warn", tqdm.write, signs)


def failure_signs(run):
    """The `FailureSigns` of the metrics lines so far; lines before a recovery count for the diversity alone."""
    recovered = max((recovery["step"] for recovery in run.recoveries()), default=0)
    judged = ("sample_diversity", "d_accuracy", "d_loss")
    lines = [line for line in run.read_metrics() if all(line.get(name) is not None for name in judged)]
    before = [line["sample_diversity"] for line in lines if line["step"] <= recovered]
    signs = FailureSigns(max(before, default=0.0))
    for line in lines[len(before) :]:
        signs.of(line)
    return signs


class FolderCheck(StepCallback):
    """Ends training if the run folder was removed or renamed, before other callbacks write into a new one.

    Args:
        path: pathlib.Path of the folder.
    """

    def __init__(self, path):
        super().__init__(interval=1)
        self.path, self.status = path, os.stat(path)

    def at_interval(self, step):
        try:
            is_same = os.path.samestat(os.stat(self.path), self.status)
        except FileNotFoundError:
            is_same = False
        except OSError:  # of a network disk, for a while
            return
        if not is_same:
            raise UserError(
                f"{self.path}: the run folder was removed or renamed during training, at step {step}. Move it back, or "
                "name its new place with --run: the same command continues from its last checkpoint."
            )


class AverageStatistics(StepCallback):
    """Recomputes the batch statistics of the averaged generator, by 32 batches; nothing that is trained changes."""

    def at_interval(self, step):
        with self.model.distribute_strategy.scope():
            set_standing_statistics(self.model.ema_generator, self.model.num_classes, batches=_STATISTICS_BATCHES)


class MetricsRecorder:
    """Writes metrics lines to the metrics log and to TensorBoard.

    Args:
        log: `MetricsLog`.
        events: `EventFile`, or None.
        writes: bool. False on workers other than the chief, which only read.
    """

    def __init__(self, log, events=None, writes=True):
        self.log, self.events, self.writes = log, events, writes

    def append(self, line):
        """Writes a line, a dict of `step` and numbers by name."""
        if not self.writes:
            return
        self.log.append(line)
        if self.events is not None:
            values = {name: value for name, value in line.items() if name != "step"}
            self.events.scalars(line["step"], values | peak_memory_gib())

    def read_unfinished(self):
        """Reads the means of a line that an earlier process began; None if there are none."""
        return self.log.read_unfinished()

    def save_unfinished(self, unfinished):
        """Saves the means of a line that is not due yet."""
        if self.writes:
            self.log.save_unfinished(unfinished)
