"""Attention of a run's networks, for generated and for real images: images, maps and measures."""

import dataclasses
import functools
import sys
from dataclasses import dataclass

import numpy as np

from sagan_tf.commands.classes import choose_classes
from sagan_tf.data import embedded
from sagan_tf.data.fingerprint import count_in_words, portable_fingerprint
from sagan_tf.data.sources import open_source, spread_over_classes, translate_data_errors
from sagan_tf.errors import UserError
from sagan_tf.experiment.loading import class_names, restore_networks
from sagan_tf.generation.pixels import from_levels, to_levels
from sagan_tf.generation.sampler import Sampler
from sagan_tf.runs.data_check import check_data
from sagan_tf.utils.progress import progress_bar
from sagan_tf.viewing.attention import AttentionProbe
from sagan_tf.viewing.attention_measures import measure_attention, measure_symmetry
from sagan_tf.viewing.explorer import ExplorerData, shrink

_BATCH = 8  # images per batch, fewer if maps are large
_BATCH_SCORES = 1 << 24  # per layer and batch: float32 and a few copies in float64
_EXPLORER_CLASSES = 4
_SPARE = 2  # times the images of embedded data that hold enough of a class on average


@dataclass(frozen=True)
class AttentionResult:
    """Attention of one network for some images.

    Args:
        network: `generator` or `discriminator`.
        pictures: `generated` or `real`.
        step: int.
        images: (N, H, W, C) uint8.
        titles: N str.
        maps: dict, name of a layer -> `AttentionMaps` of the N images.
        measures: dict, name of a layer -> dict of `measure_attention`, means over more images; `images` is how many.
    """

    network: str
    pictures: str
    step: int
    images: np.ndarray
    titles: tuple
    maps: dict
    measures: dict


class AttentionReader:
    """Reads the attention of a run's networks at one step, by default that of the options."""

    def __init__(self, run, options, step=None):
        self._run, self._config, self._options = run, run.config(), options
        self._networks = _choose_networks(run, options)
        step = options.step if step is None else step
        networks = restore_networks(run, step, discriminator="discriminator" in self._networks)
        self.step, self._num_classes = networks.step or 0, networks.num_classes
        self._classes = choose_classes(options.classes, class_names(run, networks.num_classes))
        self._sampler = Sampler(networks.generator)
        # The generator makes the images of the discriminator too.
        probed = {"generator", *self._networks}
        self._probes = {name: AttentionProbe(getattr(networks, name)) for name in probed}
        self._check_options()

    def _check_options(self):
        layers = list(dict.fromkeys(layer for name in self._networks for layer in self._probes[name].layers))
        if not layers:
            subject = self._options.network or "run"
            raise UserError(
                f"{self._run.source}: the {subject} has no attention layer; see *.attention_sizes in its config."
            )
        for name in self._options.layers or ():
            if name not in layers:
                raise UserError(f"--layers: there is no layer `{name}`. Choose from {', '.join(layers)}.")
        height, width, _ = self._config.data.image_shape
        for x, y in self._options.points or ():
            if not (0 <= x < width and 0 <= y < height):
                raise UserError(
                    f"--points: {x},{y} is outside the image, which is {width} px wide and {height} px high."
                )

    def results(self, drawn, measured):
        """Lists the `AttentionResult`s of the options: maps of the first `drawn` images, measures of `measured`."""
        count, results = max(drawn, measured), []
        if self._options.pictures != "real":
            seeds = np.arange(self._options.seed, self._options.seed + count)
            labels = self._labels(count)
            titles = [f"seed {seed}" for seed in seeds]
            if labels is not None:
                titles = [f"{self._classes[label]}, {title}" for label, title in zip(labels, titles)]
            results += self._generated(seeds, labels, titles, drawn)
        if self._options.pictures != "generated" and "discriminator" in self._networks:
            images, labels, titles = self._real_images(count)
            if len(images):
                inputs = _inputs(images, None if self._classes is None else labels)
                results.append(self._read("discriminator", "real", inputs, titles, drawn)[0])
        return [result for result in results if result.network in self._networks and result.maps]

    def explorer_data(self, count):
        """The `ExplorerData` of up to `count` generated images, of four classes at most."""
        labels = list(self._classes)[: min(_EXPLORER_CLASSES, count)] if self._classes else [None]
        first, per_class = self._options.seed, max(1, count // len(labels))
        seeds = np.tile(np.arange(first, first + per_class), len(labels))
        names = np.repeat([self._classes[label] if self._classes else "" for label in labels], per_class)
        labels = np.repeat(labels, per_class) if self._classes else None
        results = self._generated(seeds, labels, names, len(seeds), shrink)
        results = [result for result in results if result.network in self._networks]
        maps = {(result.network, name): maps for result in results for name, maps in result.maps.items()}
        title = f"{self._run.name}, step {self.step}"
        return ExplorerData(title, results[0].images, tuple(names.tolist()), tuple(seeds.tolist()), maps)

    def _generated(self, seeds, labels, titles, drawn, reduce=lambda maps: maps):
        """Attention of both networks for generated images."""
        inputs = self._sampler.inputs(seeds, labels, self._options.truncation)
        result, images = self._read("generator", "generated", inputs, titles, drawn, reduce)
        if "discriminator" not in self._networks:
            return [result]
        inputs = _inputs(images, labels)
        return [result, self._read("discriminator", "generated", inputs, titles, drawn, reduce)[0]]

    def _read(self, network, pictures, inputs, titles, drawn, reduce=lambda maps: maps):
        """The result for all inputs, with the maps of the first `drawn`, which `reduce` may shrink, and all images.

        Maps of large layers take much memory: of images that are only measured, those of one batch are held at a time.
        """
        probe, layers = self._probes[network], self._options.layers
        batch = max(1, min(_BATCH, _BATCH_SCORES // max(probe.scores_per_image, 1)))
        starts = range(0, len(inputs[0]), batch)
        outputs, kept, measured = [], [], []
        title, is_short = f"{network}, {pictures}", len(starts) < 4
        for start in progress_bar(starts, unit="batch", desc=title, leave=False, disable=is_short):
            output, maps = probe.attention_maps([x[start : start + batch] for x in inputs], batch)
            maps = {name: layer_maps for name, layer_maps in maps.items() if layers is None or name in layers}
            outputs.append(output)
            measured.append({name: self._measure(layer_maps) for name, layer_maps in maps.items()})
            if start < drawn:
                kept.append({name: reduce(layer_maps) for name, layer_maps in maps.items()})
        images = np.concatenate(outputs) if network == "generator" else inputs[0]
        weights = [len(output) for output in outputs]
        result = AttentionResult(
            network,
            pictures,
            self.step,
            to_levels(images[:drawn]),
            tuple(titles[:drawn]),
            {name: _concatenate([maps[name] for maps in kept], drawn) for name in kept[0]},
            {
                name: _mean([measures[name] for measures in measured], weights) | {"images": len(images)}
                for name in measured[0]
            },
        )
        return result, images

    def _measure(self, maps):
        measures = measure_attention(maps, self._config.data.image_shape[:2])
        return measures | (measure_symmetry(maps) if self._config.data.name == "mirror" else {})

    def _labels(self, count):
        """(N,) int32, the classes in turn; None without classes."""
        return None if self._classes is None else np.resize(list(self._classes), count).astype(np.int32)

    def _real_images(self, count):
        try:
            chosen = None if self._options.classes is None else tuple(self._classes)
            return real_images(self._run, count, self._num_classes, chosen)
        except UserError as error:
            if self._options.pictures == "real":
                raise
            print(f"Real images are left out: {error}", file=sys.stderr)
            return (), None, ()


@functools.lru_cache(maxsize=1)  # the same images for all steps
def real_images(run, count, num_classes, classes=None):
    """Reads up to `count` images of a run's data, the classes in turn.

    Args:
        run: `Run`.
        count: int.
        num_classes: int, classes of the networks; None without classes.
        classes: Tuple of labels of the classes; None: all.

    Returns:
        ((N, H, W, C) in [-1, 1], labels (N,) or None, N titles).

    Raises:
        UserError: The data cannot be read, have other classes than the run, or no image of `classes`.
    """
    data = run.config().data
    if data.name in embedded.NAMES:
        size, _, channels = data.image_shape
        indices = range(count if classes is None else count * len(embedded.KINDS) * _SPARE)
        images, labels = embedded.render(data.name, indices, split=data.split, image_size=size, channels=channels)
        if classes is not None:
            chosen = np.flatnonzero(np.isin(labels, classes))[:count]
            images, labels = images[chosen], labels[chosen]
        names = embedded.KINDS
    else:
        with translate_data_errors(data.name):
            source = open_source(data)
            if num_classes is not None:
                check_data(run, portable_fingerprint(source), classes_only=True)
            if num_classes not in (None, source.num_classes):
                raise UserError(f"{data.name}: the data have {count_in_words(source.class_names)}, not {num_classes}.")
            images, labels = spread_over_classes(source, count, classes)
        names = source.class_names
    captions = [f"no. {i + 1}" for i in range(len(images))] if names is None else [names[label] for label in labels]
    turns = [captions[:i].count(caption) for i, caption in enumerate(captions)]
    order = np.argsort(turns, kind="stable")
    labels = None if names is None else labels[order]
    return from_levels(images[order]), labels, tuple(f"{captions[i]}, real" for i in order)


def _choose_networks(run, options):
    """Names of the networks of the options; without a checkpoint, which alone holds the discriminator, of one."""
    if options.network:
        return [options.network]
    if run.checkpoint_steps() or options.pictures == "real":
        return ["generator", "discriminator"]
    print(f"The discriminator is left out: {run.name} has no checkpoint, which alone holds it.", file=sys.stderr)
    return ["generator"]


def _inputs(x, labels):
    return [x] if labels is None else [x, np.int32(labels)]


def _concatenate(parts, count):
    arrays = {name: np.concatenate([getattr(part, name) for part in parts])[:count] for name in ("scores", "features")}
    return dataclasses.replace(parts[0], **arrays)


def _mean(measures, weights):
    """Weighted means of the numbers of dicts; other values are the same in all of them."""
    numbers = [name for name, value in measures[0].items() if isinstance(value, float)]
    means = {name: float(np.average([part[name] for part in measures], weights=weights)) for name in numbers}
    return measures[0] | means
