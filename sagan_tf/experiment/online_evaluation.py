"""Evaluates the averaged generator during training and keeps the best one."""

import contextlib
import dataclasses
import math
import shutil

from sagan_tf.data.fingerprint import portable_fingerprint
from sagan_tf.data.sources import open_source
from sagan_tf.errors import renamed_options
from sagan_tf.evaluation.evaluator import Evaluator, SampleSet
from sagan_tf.evaluation.features import open_features
from sagan_tf.evaluation.shards import WorkerShares
from sagan_tf.files.hashing import sha256_of_parts
from sagan_tf.generation.saving import save_generator
from sagan_tf.training.callbacks import StepCallback
from sagan_tf.training.guard import check_finite
from sagan_tf.training.workers import make_all_reduce, read_worker

_COUNT = "evaluation_samples"  # In every metrics line of an evaluation, and in no other.
_SHARED_DISK_MINUTES = 5  # Until a file of one worker is visible to the others.
# The options of `sagan evaluate` -> those of training.
_OPTIONS = {f"--{name}": f"--evaluation.{name}" for name in ("features", "inception", "pixel_range")}
_INCEPTION_NAMES = {"frechet_distance": "fid", "kernel_distance": "kid"}


class EvaluationInterrupted(Exception):
    """The run stops before an evaluation is complete; the next start makes it."""


class OnlineEvaluation(StepCallback):
    """Evaluates every `evaluation.interval` steps and at the end, and makes an evaluation that was interrupted.

    Args:
        config: `Config` with an evaluation interval.
        run: `Run`.
        gan: Compiled SAGAN.
        source: `data.sources.Source` of the training data.
        log: Metrics log with `append(line)`.

    Raises:
        UserError: The feature network or the split is not available.
    """

    def __init__(self, config, run, gan, source, log):
        options = config.evaluation
        super().__init__(options.interval)
        self.config, self.run, self.log, self.worker = config, run, log, read_worker()
        # One of several workers computes its share on its own devices.
        strategy = gan.distribute_strategy if self.worker.count == 1 else None
        with renamed_options(_OPTIONS), strategy.scope() if strategy is not None else contextlib.nullcontext():
            network = open_features(options.features, options.inception, options.pixel_range)
        self.evaluator = Evaluator(network, strategy, show_progress=self.worker.is_chief)
        samples = SampleSet(options.num_samples, config.training.seed + 1)
        if self.worker.is_chief:
            reference = _open_reference(config, source)
            self.reference = self.evaluator.dataset_features(reference)
            self.protocol = protocol_of(network, samples, reference)
            print(
                f"Evaluation: every {options.interval:,} steps, {samples.count:,} samples against "
                f"{self.reference.count:,} images of the data, by {network.name}; the best generator: "
                f"{run.best_generator_path}"
            )
        self.collection = SampleCollection(gan, self.evaluator, samples, run.evaluation_path / "training", self.worker)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.evaluated_step = self.first_step
        if is_evaluation_missing(self.config, self.run, self.first_step):
            self._evaluate()  # interrupted again, it ends the run here, since Keras would make a step first

    def make_missing(self, gan):
        """Makes the evaluation that an earlier process left to the next start of a run whose steps are all done."""
        self.set_model(gan)
        with contextlib.suppress(EvaluationInterrupted):
            self.on_train_begin()

    def at_interval(self, step):
        with contextlib.suppress(EvaluationInterrupted):
            self._evaluate()

    def on_train_end(self, logs=None):
        # A run that stops is evaluated at the same steps as one that does not.
        if self.evaluated_step != self.last_step and not getattr(self.model, "stop_training", False):
            self.at_interval(self.last_step)

    def _evaluate(self):
        check_finite(self.model, self.last_step, {})  # NaN would become an ordinary pixel level
        try:
            with renamed_options(_OPTIONS):
                features = self.collection.collect(self.last_step)
        except EvaluationInterrupted:
            print(f"The evaluation of step {self.last_step} is left to the next start, because the run stops.")
            raise
        finally:
            self.collection.remove_files()
        if self.worker.is_chief:
            self._record(features)
        self.evaluated_step = self.last_step

    def _record(self, features):
        names = _INCEPTION_NAMES if self.evaluator.network.is_inception else {}
        metrics, _ = self.evaluator.metrics(features, self.reference, ("fid", "kid"))
        values = {names.get(metric.key, metric.key): metric.value for metric in metrics}
        self.log.append({"step": self.last_step, **values, _COUNT: features.count})
        metric = next(name for name in values if name in ("fid", "frechet_distance"))
        best = self.run.best()
        if best is not None and (best["metric"], best["protocol"]) != (metric, self.protocol):
            print(f"The best generator, of step {best['step']}, was found by other options or data: it is replaced.")
            best = None
        if best is None or best["value"] > values[metric]:
            record = {"step": self.last_step, "metric": metric, "value": values[metric], "protocol": self.protocol}
            save_generator(self.model.ema_generator, self.run.best_generator_path, record)


def protocol_of(network, samples, reference):
    """Lists, as JSON values, what a distance depends on besides the generator; others make it incomparable."""
    hashes = portable_fingerprint(reference)["hashes"]
    return [network.about(), samples.count, samples.seed, reference.split, sha256_of_parts(map(str.encode, hashes))]


def is_evaluation_missing(config, run, step):
    """Returns whether the evaluation of a checkpoint's step was due and was interrupted."""
    interval = config.evaluation.interval
    if not interval or not step or (step % interval and step != config.training.steps):
        return False
    return not any(line["step"] == step and _COUNT in line for line in run.read_metrics())


class SampleCollection:
    """Collects the features of the averaged generator's samples; each worker computes its share.

    Before each batch the workers agree whether to continue, because one that stopped alone would leave the others
    waiting. So all make as many rounds as the largest share has batches.
    """

    def __init__(self, gan, evaluator, samples, stem, worker):
        self._gan, self._evaluator, self._samples, self._worker = gan, evaluator, samples, worker
        self._sampler = evaluator.sampler(gan.ema_generator)
        self._shares = WorkerShares(stem, worker)
        self._all_reduce = None if worker.count == 1 else make_all_reduce(gan.distribute_strategy)
        self._rounds = math.ceil(math.ceil(samples.count / worker.count) / evaluator.batch_size)

    def collect(self, step):
        """Collects the features at a step.

        Returns:
            FeatureSet of all samples; None on workers other than the chief.

        Raises:
            EvaluationInterrupted: A worker is asked to stop.
        """
        self.remove_files()  # of an earlier process, perhaps with other weights
        rounds_left = self._rounds

        def before_batch():
            nonlocal rounds_left
            self._check_stop()
            rounds_left -= 1

        shares = self._shares
        features, _ = self._evaluator.collect_samples(
            self._sampler, self._samples, {"step": step}, shares.folder, shares.share, before_batch
        )
        if self._worker.count > 1:
            for _ in range(rounds_left):
                self._check_stop()
        return shares.gather(features, _SHARED_DISK_MINUTES, barrier=lambda: self._all_reduce(0))

    def remove_files(self):
        """Removes this worker's files."""
        shutil.rmtree(self._shares.folder, ignore_errors=True)
        self._shares.paths[self._worker.index].unlink(missing_ok=True)

    def _check_stop(self):
        gan = self._gan
        if self._all_reduce is None:
            if gan.stop_wanted:
                raise EvaluationInterrupted
        elif (stopping_replicas := self._all_reduce(float(gan.stop_wanted))) > 0:
            # The same number on all workers, so that all end after the same step.
            gan.stop_agreed, gan.stop_training = stopping_replicas, True
            raise EvaluationInterrupted


def _open_reference(config, source):
    split = config.evaluation.split
    if split in (None, config.data.split):
        return source
    return open_source(dataclasses.replace(config.data, split=split))
