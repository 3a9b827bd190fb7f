"""Measures the averaged generator of a run that is going on, as its config's section `evaluation` says."""

import contextlib
import dataclasses
import math
import shutil

from sagan_tf.data.sources import open_source
from sagan_tf.evaluation.features import open_features
from sagan_tf.evaluation.measurer import Measurer, Samples
from sagan_tf.evaluation.metrics import compute_metrics
from sagan_tf.evaluation.shards import merge_shards, save_shard, wait_for_shards
from sagan_tf.files.atomic import atomic_write
from sagan_tf.training.evaluations import Evaluations
from sagan_tf.training.workers import make_all_reduce, read_worker

_COUNT = "evaluation_samples"  # In every line of figures, and in no other.
_SHARED_DISK_MINUTES = 5  # for what a worker has written to be seen by another
_NAMES = {"frechet_distance": "fid", "kernel_distance": "kid"}  # With Inception's features.


class Stopped(Exception):
    """The run stops, and waits for no measurement."""


def is_missing(config, run, step):
    """Whether a step was to be measured, and was not because the run was stopped there.

    Args:
        config: `Config`.
        run: `Run`.
        step: int, of the checkpoint that the run goes on from.

    Returns:
        bool.
    """
    interval = config.evaluation.interval
    if not interval or not step or (step % interval and step != config.training.steps):
        return False
    return not any(line["step"] == step and _COUNT in line for line in run.read_metrics())


def evaluation_callbacks(config, run, gan, source, record):
    """Makes what measures, where the config wants it.

    Args:
        config: `Config`.
        run: `Run`.
        gan: Compiled SAGAN.
        source: `data.sources.Source` that is trained on.
        record: Function of a dict, `step` and figures by name.

    Returns:
        list of Keras callbacks, empty or one.

    Raises:
        UserError: The features or the split are not to be had; said before the first step.
    """
    options = config.evaluation
    if not options.interval:
        return []
    worker = read_worker()
    # A worker measures its share of the samples on its own, as without the others.
    strategy = gan.distribute_strategy if worker.count == 1 else None
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        network = open_features(options.features, options.inception, options.pixel_range)
    measurer = Measurer(network, strategy, show_progress=worker.is_chief)
    reference = measurer.of_source(_source(config, source)) if worker.is_chief else None
    samples = Samples(options.num_samples, config.training.seed + 1)
    if reference is not None:
        print(f"Evaluation: every {options.interval:,} steps, {samples.count:,} samples against {reference.count:,} "
              f"pictures, by {network.name}; the best generator: {run.best_generator_path}")
    collection = Collection(gan, measurer, samples, run.evaluation_path / "training.collecting", worker)

    def figures_at(step):
        try:
            found = collection.at(step)
        except Stopped:
            print(f"The evaluation at step {step} is left to the next start, for the run stops.")
            return None
        finally:
            collection.close()
        if found is None:
            return {}
        figures, _ = compute_metrics(found, reference, ("fid", "kid"))
        names = _NAMES if network.is_inception else {}
        values = {names.get(figure.key, figure.key): figure.value for figure in figures}
        return values | {_COUNT: samples.count}

    def keep_best(*found):
        if worker.is_chief:
            _keep_best(run, *found)

    return [
        Evaluations(
            figures_at, record, keep_best, options.interval, lambda step: is_missing(config, run, step),
        )
    ]  # fmt: skip


class Collection:
    """Features of samples of the averaged generator, of which each worker makes its share.

    Nobody leaves it alone: before each batch the workers agree whether all go on, for one that stopped by itself would
    leave the others waiting. So all make as many rounds as the largest share has batches.
    """

    def __init__(self, gan, measurer, samples, folder, worker):
        self._gan, self._measurer, self._samples, self._worker = gan, measurer, samples, worker
        self._sampler = measurer.sampler(gan.ema_generator)
        self._folder = folder if worker.count == 1 else folder.with_name(f"{folder.name}.{worker.index}")
        self._shards = [folder.with_name(f"{folder.name}.{i}.npz") for i in range(worker.count)]
        self._shard = self._shards[worker.index]
        self._agree = None if worker.count == 1 else make_all_reduce(gan.distribute_strategy)
        self._rounds = math.ceil(math.ceil(samples.count / worker.count) / measurer.rows)

    def at(self, step):
        """Collects.

        Args:
            step: int.

        Returns:
            FeatureSet of all samples; None on workers but the chief.

        Raises:
            Stopped: This worker or another one is asked to stop.
        """
        self.close()  # of another life of this run, perhaps with other weights
        batches = 0

        def before_batch():
            nonlocal batches
            self._stop_if_wanted()
            batches += 1

        worker, about = self._worker, {"step": step}
        found, _ = self._measurer.of_generator(
            self._sampler, self._samples, about, self._folder, (worker.index, worker.count), before_batch
        )
        if self._agree is None:
            return found
        for _ in range(self._rounds - batches):
            self._stop_if_wanted()
        save_shard(found, self._shard)
        self._agree(0)  # all shares are there
        if not worker.is_chief:
            self._agree(0)  # the chief has read them
            return None
        shards = wait_for_shards(self._shards, found.about, _SHARED_DISK_MINUTES)
        self._agree(0)
        return merge_shards(shards)

    def close(self):
        """Removes what this worker has laid on the disk."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._shard.unlink(missing_ok=True)

    def _stop_if_wanted(self):
        if self._agree is None:
            if self._gan.stop_wanted:
                raise Stopped
        elif (wanted := self._agree(float(self._gan.stop_wanted))) > 0:
            # The same on all workers, which so end after the same step.
            self._gan.stop_agreed, self._gan.stop_training = wanted, True
            raise Stopped


def _source(config, source):
    split = config.evaluation.split
    if split in (None, config.data.split):
        return source
    return open_source(dataclasses.replace(config.data, split=split))


def _keep_best(run, gan, step, figures):
    metric = next(name for name in figures if name in ("fid", "frechet_distance"))
    best = run.best()
    if best is not None and best["metric"] == metric and best["value"] <= figures[metric]:
        return
    with atomic_write(run.best_generator_path) as temporary_path:
        gan.ema_generator.save(temporary_path)
    run.save_best(step, metric, figures[metric])
