"""Features of a generator's samples and of data sets, on all replicas, with what is computed once kept in the cache."""

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from sagan_tf.data.fingerprint import fingerprint
from sagan_tf.errors import UserError
from sagan_tf.evaluation.collector import Collector
from sagan_tf.evaluation.inception import cache_folder
from sagan_tf.evaluation.precision_recall import own_distances
from sagan_tf.evaluation.statistics import FORMAT, mismatch, read_statistics, save_statistics
from sagan_tf.files.locks import exclusive
from sagan_tf.generation.latents import NO_TRUNCATION
from sagan_tf.generation.replicas import on_all_replicas
from sagan_tf.generation.sampler import Sampler

KEPT = 50_000  # Largest number of pictures whose own features are kept.


@dataclass(frozen=True)
class Samples:
    """Which pictures of a generator are measured. Picture i is that of seed `seed + i`, whatever batch it comes in.

    Args:
        count: int, N.
        seed: int, the first.
        truncation: float > 0, largest entry of a latent; 6: the whole normal distribution.
        label_shares: Shares of the K classes; None: equal ones, the classes in turn.
    """

    count: int
    seed: int = 0
    truncation: float = NO_TRUNCATION
    label_shares: tuple[float, ...] | None = None

    def labels(self, start, end, num_classes):
        """Labels of pictures `start` to `end - 1`: (n,) int32, or None without classes."""
        if num_classes is None:
            return None
        numbers = np.arange(start, end)
        if self.label_shares is None:
            return (numbers % num_classes).astype(np.int32)
        # A fraction of the golden ratio fills the unit interval evenly from any picture on.
        places = (numbers * ((5**0.5 - 1) / 2)) % 1.0
        return np.searchsorted(np.cumsum(self.label_shares)[:-1], places, side="right").astype(np.int32)


class Measurer:
    """Turns pictures into sets of features.

    Args:
        network: `FeatureNetwork`, opened in the strategy's scope.
        strategy: tf.distribute.Strategy of this process, or None.
        batch_size: int >= 1, pictures a replica at a time.
        show_progress: Draw bars.
    """

    def __init__(self, network, strategy, batch_size=64, show_progress=True):
        self.network, self.strategy, self.batch_size = network, strategy, batch_size
        self.show_progress = show_progress
        self.rows = batch_size * (1 if strategy is None else strategy.num_replicas_in_sync)
        self._features_of = on_all_replicas(network, strategy, batch_size)

    def sampler(self, generator):
        """Makes the sampler of a generator, made in the strategy's scope, whose images come with their features."""
        return Sampler(generator, self.batch_size, self.strategy, self.network, show_progress=False)

    def of_generator(self, sampler, samples, about, folder, share=(0, 1), before_batch=lambda: None):
        """Measures samples of a generator.

        Args:
            sampler: `Sampler` as of `sampler`.
            samples: `Samples`.
            about: dict of JSON values, which generator it is.
            folder: Where to collect; what another process left of the same work is gone on with.
            share: (index, count) of this worker among those that share the work.
            before_batch: Function without arguments, called before each batch.

        Returns:
            (FeatureSet, Collector); the features lie in the folder until the collector is closed.
        """
        about = {**about, **asdict(samples), "features": self.network.about(), "format": FORMAT}

        def batches(start, end):
            for first in range(start, end, self.rows):
                last = min(first + self.rows, end)
                labels = samples.labels(first, last, sampler.num_classes)
                seeds = np.arange(samples.seed + first, samples.seed + last)
                before_batch()
                _, features, probabilities = sampler.sample_with_features(seeds, labels, samples.truncation)
                yield features, probabilities, labels

        return self._collect(batches, samples.count, about, folder, "generating", share=share)

    def of_source(self, source, keep=KEPT, cache=None, refresh=False):
        """Measures a data set, or reads what was measured of it before.

        Args:
            source: `data.sources.Source`.
            keep: int, pictures whose own features are kept.
            cache: Folder of the cache; None: the user's.
            refresh: Compute anew whatever the cache holds.

        Returns:
            FeatureSet.
        """
        about = self.about_source(source) | {"kept": min(keep, source.num_images)}
        path = self.statistics_path(source, cache)
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(f"{path}.lock", notice=f"Another process computes {path}; waiting for it."):
            return self._read_or_compute(source, about, path, keep, refresh)

    def _read_or_compute(self, source, about, path, keep, refresh):
        if path.is_file() and not refresh:
            reason = self._unfit(path, about)
            if reason is None:
                return read_statistics(path)
            print(f"Not used: {path}: {reason}. Computed anew.")
        found, collector = self.of_pictures(source, about, path.with_suffix(".collecting"), keep)
        distances = own_distances(found.features, show_progress=self.show_progress)
        save_statistics(replace(found, own_distances=distances), path)
        collector.close()
        return read_statistics(path)

    def of_pictures(self, source, about, folder, keep=KEPT):
        """Measures the pictures of a source, without the cache.

        Args:
            source: `data.sources.Source`.
            about: dict of JSON values, which pictures they are.
            folder: Where to collect, as for `of_generator`.
            keep: int, pictures whose own features are kept.

        Returns:
            (FeatureSet, Collector), as `of_generator`.
        """

        def batches(start, _):
            for images, *label in source.reader.in_order_batches(self.rows, start):
                yield *self._features_of(images), (label[0] if label else None)

        return self._collect(batches, source.num_images, about, folder, f"measuring {source.name}", keep)

    def about_source(self, source):
        """What statistics of a source must say to be taken for it: dict of JSON values."""
        return {
            "format": FORMAT,
            "data": source.name,
            "split": source.split,
            "count": source.num_images,
            "picture": [source.image_size, source.image_size, source.image_channels],
            "class_names": None if source.class_names is None else list(source.class_names),
            "fingerprint": fingerprint(source),
            "features": self.network.about(),
        }

    def statistics_path(self, source, cache=None):
        """Where statistics of a source lie: pathlib.Path."""
        parts = (source.name, source.split, f"{source.image_size}px", self.network.name, self.network.sha256[:8])
        folder = Path(cache) if cache is not None else cache_folder()
        return folder / "statistics" / f"{'-'.join(plain_name(part) for part in parts)}.npz"

    @staticmethod
    def _unfit(path, about):
        try:
            return mismatch(read_statistics(path).about, about)
        except UserError as error:
            return str(error)

    def _collect(self, batches, count, about, folder, title, keep=KEPT, share=(0, 1)):
        network = self.network
        collector = Collector(folder, about, count, network.dimensions, network.num_classes, keep, share=share)
        first, end, done = collector.first, collector.end, collector.done
        with tqdm(total=end - first, initial=done, unit="img", desc=title, disable=not self.show_progress) as bar:
            try:
                for features, probabilities, labels in batches(first + done, end):
                    collector.add(features, probabilities if network.num_classes else None, labels)
                    bar.update(len(features))
            except KeyboardInterrupt:
                collector.save()
                raise
        return collector.finish(), collector


def plain_name(text):
    """Makes a part of a file name of a text: letters, digits, points and lines, 40 at most."""
    return re.sub(r"[^\w.]+", "_", str(text)).strip("_.")[-40:] or "x"
