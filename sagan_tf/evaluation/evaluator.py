"""Evaluates generators and data sets: features of their images, cached for data sets, and metrics from features."""

import re
from dataclasses import asdict, dataclass, replace

import numpy as np

from sagan_tf.data.fingerprint import fingerprint
from sagan_tf.errors import UserError, format_image_size
from sagan_tf.evaluation.collector import Collector
from sagan_tf.evaluation.defaults import BATCH_SIZE, KEPT_IMAGES
from sagan_tf.evaluation.metric_names import METRICS
from sagan_tf.evaluation.metrics import compute_metrics
from sagan_tf.evaluation.precision_recall import own_distances
from sagan_tf.evaluation.statistics import FORMAT, mismatch, read_statistics, save_statistics
from sagan_tf.files.cache import user_cache_folder
from sagan_tf.files.hashing import sha256_of_parts
from sagan_tf.files.locks import exclusive
from sagan_tf.generation.pixels import to_levels
from sagan_tf.generation.replicas import on_all_replicas
from sagan_tf.generation.sampler import Sampler
from sagan_tf.generation.truncation import NO_TRUNCATION
from sagan_tf.utils.progress import progress_bar


@dataclass(frozen=True)
class SampleSet:
    """The samples of a generator that are evaluated. Sample i has seed `seed + i`, which its label is drawn from too.

    Args:
        count: int, N.
        seed: int, of the first sample.
        truncation: float > 0, largest absolute entry of a latent; the default keeps the whole normal distribution.
        label_shares: Probabilities of the K classes; None: equal ones.
    """

    count: int
    seed: int = 0
    truncation: float = NO_TRUNCATION
    label_shares: tuple[float, ...] | None = None

    def labels(self, start, end, num_classes):
        """Labels of samples `start` to `end - 1`: (n,) int32, or None without classes."""
        if num_classes is None:
            return None
        # Drawn, not in turn: samples are independent only then, and KID is biased if they are not.
        words = [np.random.Philox(key=[self.seed + i, 3]).random_raw() for i in range(start, end)]
        uniform = np.array(words, np.uint64) / 2.0**64
        shares = np.full(num_classes, 1 / num_classes) if self.label_shares is None else self.label_shares
        return np.searchsorted(np.cumsum(shares)[:-1], uniform, side="right").astype(np.int32)


class Evaluator:
    """Computes features of samples and data sets on all replicas, and metrics from features.

    Args:
        network: `FeatureNetwork`, opened in the strategy's scope; None makes samples but no features.
        strategy: tf.distribute.Strategy of this process; None for the default device.
        batch_size: int >= 1, images per replica and batch.
        show_progress: bool. Show progress bars.
    """

    def __init__(self, network, strategy, batch_size=BATCH_SIZE, show_progress=True):
        self.network, self.strategy, self.show_progress = network, strategy, show_progress
        self._replica_batch_size = batch_size
        self.batch_size = batch_size * (1 if strategy is None else strategy.num_replicas_in_sync)
        self._features_of = None if network is None else on_all_replicas(network, strategy, batch_size)

    @property
    def is_inception(self):
        """Whether the metrics may be called FID, KID and Inception Score."""
        return self.network is not None and self.network.is_inception

    def sampler(self, generator):
        """Makes the `Sampler`, with features, of a generator that was made in the strategy's scope.

        It shows a bar for many images at once, such as those of MS-SSIM, and none for the batches of `collect_samples`.
        """

        def outputs(images):
            levels = to_levels(images)
            return (levels,) if self.network is None else (levels, *self.network(levels))

        return Sampler(generator, self._replica_batch_size, self.strategy, outputs, self.show_progress)

    def collect_samples(self, sampler, samples, about, folder, share=(0, 1), before_batch=lambda: None):
        """Computes the features of a generator's samples.

        Args:
            sampler: `Sampler` of `sampler`.
            samples: `SampleSet`.
            about: dict of JSON values that identify the generator.
            folder: Path where the features are collected; an interrupted collection of the same samples is resumed.
            share: (index, count) of this worker among those that share the samples.
            before_batch: Function without arguments, called before each batch.

        Returns:
            (FeatureSet, Collector); the features are in the folder until the collector is closed.

        Raises:
            UserError: A feature is not finite.
        """
        about = {**about, **asdict(samples), "features": self.network.about(), "format": FORMAT}

        def batches(start, end):
            for first in range(start, end, self.batch_size):
                last = min(first + self.batch_size, end)
                labels = samples.labels(first, last, sampler.num_classes)
                seeds = np.arange(samples.seed + first, samples.seed + last)
                before_batch()
                _, features, probabilities = sampler.sample_outputs(seeds, labels, samples.truncation)
                yield features, probabilities, labels

        return self._collect(batches, samples.count, about, folder, "generating", share=share)

    def collect_images(self, source, about, folder, keep=KEPT_IMAGES):
        """Computes the features of a data set without the cache; arguments and results as in `collect_samples`."""

        def batches(start, _):
            for images, *label in source.reader.in_order_batches(self.batch_size, start):
                yield *self._features_of(images), (label[0] if label else None)

        return self._collect(batches, source.num_images, about, folder, f"measuring {source.name}", keep)

    def dataset_features(self, source, keep=KEPT_IMAGES, refresh=False):
        """Computes the features of a data set, or reads them from the cache.

        Args:
            source: `data.sources.Source`.
            keep: int, largest number of images whose own features are kept.
            refresh: bool. Recompute the features even if they are in the cache.

        Returns:
            FeatureSet.

        Raises:
            UserError: There are fewer than two images.
        """
        if source.num_images < 2:
            raise UserError(f"{source.name}: a reference needs two images or more.")
        about = self.describe_dataset(source) | {"kept": min(keep, source.num_images)}
        path = self.statistics_path(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(f"{path}.lock", notice=f"Another process computes {path}; waiting for it."):
            if path.is_file() and not refresh:
                try:
                    cached = read_statistics(path)
                    reason = mismatch(cached.about, about)
                except UserError as error:
                    reason = str(error)
                if reason is None:
                    return cached
                print(f"{path} is not used and recomputed: {reason}.")
            features, collector = self.collect_images(source, about, path.with_suffix(".collecting"), keep)
            distances = own_distances(features.features, show_progress=self.show_progress)
            save_statistics(replace(features, own_distances=distances), path)
            collector.close()
            return read_statistics(path)

    def read_statistics(self, path):
        """Reads the features of a data set from a file of statistics.

        Args:
            path: Path of an `.npz` file.

        Returns:
            FeatureSet.

        Raises:
            UserError: It cannot be read, or was made with another feature network.
        """
        features, network = read_statistics(path), self.network
        made_with = features.about.get("features")
        if made_with is not None and (reason := mismatch(made_with, network.about())) is not None:
            raise UserError(f"{path}: made with other features than {network.name}: {reason}.")
        if len(features.moments.mean) != network.dimensions:
            raise UserError(
                f"{path}: holds {len(features.moments.mean):,} features, and {network.name} has {network.dimensions:,}."
            )
        return features

    def describe_dataset(self, source):
        """Identifies a data set and its features: dict of JSON values, which cached statistics must match."""
        return {
            "format": FORMAT,
            "data": source.name,
            "split": source.split,
            "count": source.num_images,
            "picture": list(source.image_shape),
            "resize": source.resize,
            "class_names": None if source.class_names is None else list(source.class_names),
            "fingerprint": fingerprint(source),
            "features": None if self.network is None else self.network.about(),
        }

    def statistics_path(self, source):
        """Path of a data set's statistics in the cache."""
        size = f"{format_image_size(source.image_shape[:2])}px"
        network = sha256_of_parts([self.network.sha256.encode(), self.network.preprocessing.encode()])
        parts = (source.name, source.split, size, self.network.name, network[:8])
        return user_cache_folder() / "statistics" / f"{'-'.join(file_name_part(part) for part in parts)}.npz"

    def metrics(self, generated, reference, names=METRICS, at_infinity=False):
        """Computes the metrics of two `FeatureSet`s; arguments, results and errors as in `compute_metrics`."""
        return compute_metrics(generated, reference, names, at_infinity, show_progress=self.show_progress)

    def _collect(self, batches, count, about, folder, title, keep=KEPT_IMAGES, share=(0, 1)):
        network = self.network
        collector = Collector(folder, about, count, network.dimensions, network.num_classes, keep, share=share)
        first, end, done = collector.first, collector.end, collector.done
        is_hidden = not self.show_progress
        with progress_bar(total=end - first, initial=done, unit="img", desc=title, disable=is_hidden) as bar:
            try:
                for features, probabilities, labels in batches(first + done, end):
                    probabilities = probabilities if network.num_classes else None
                    if not all(np.isfinite(x).all() for x in (features, probabilities) if x is not None):
                        raise UserError(
                            f"{network.name}: gives features or probabilities that are not finite numbers. Choose "
                            "another layer or network with --features, or the pixel range that it expects with "
                            "--pixel_range."
                        )
                    collector.add(features, probabilities, labels)
                    bar.update(len(features))
            except KeyboardInterrupt:
                collector.save()
                raise
            except Exception:
                collector.close(keep_saved=True)
                raise
        return collector.finish(), collector


def file_name_part(text):
    """Makes a text part of a file name: letters, digits, `.` and `_`, at most 40."""
    return re.sub(r"[^\w.]+", "_", str(text)).strip("_.")[-40:] or "x"
