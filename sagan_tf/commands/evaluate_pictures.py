"""Metrics and pictures of an evaluation that are made from images, not from features."""

import numpy as np

from sagan_tf.data import rules
from sagan_tf.data.sources import first_of_each_class
from sagan_tf.evaluation.metrics import MetricValue
from sagan_tf.evaluation.ms_ssim import class_similarities, num_scales
from sagan_tf.evaluation.precision_recall import nearest_neighbours
from sagan_tf.viewing.image_grids import Table, save_table

_RULE_SAMPLES = 10_000
_NEIGHBOUR_ROWS, _NEIGHBOURS = 8, 7
_CLASS_ROWS, _CLASS_COLUMNS = 20, 10


class SampleReader:
    """Generates the images of an evaluation's samples by their indices.

    Args:
        sampler: `Sampler`.
        samples: `SampleSet`.
    """

    def __init__(self, sampler, samples):
        self._sampler, self.samples, self.num_classes = sampler, samples, sampler.num_classes

    def read(self, indices, labels=None):
        """Returns (images (n, S, S, C) uint8, labels (n,) or None); `labels` replaces the samples' own."""
        indices = np.asarray(indices, np.int64)
        if labels is None and self.num_classes is not None:
            labels = np.array([self.samples.labels(index, index + 1, self.num_classes)[0] for index in indices])
        return self._sampler.sample(self.samples.seed + indices, labels, self.samples.truncation), labels


def picture_metrics(reader, source, names, rule):
    """Computes the metrics that are made from images.

    Args:
        reader: `SampleReader`.
        source: `data.sources.Source` of the reference, or None.
        names: Some of `PICTURE_METRICS`.
        rule: Name of the embedded data set whose rule the samples should follow, or None.

    Returns:
        (list of `MetricValue`, dict of the metrics that cannot be computed -> reason).
    """
    values, left_out = [], {}
    if "ms_ssim" in names:
        if reader.samples.count < 2 * (reader.num_classes or 1):
            left_out["ms_ssim"] = "there are fewer than two samples per class"
        else:
            values += _similarities(reader, source)
    if "rule" in names:
        if rule is None:
            left_out["rule"] = "the data set has no rule that images can be checked by"
        else:
            values += _rule_scores(reader, rule)
    return values, left_out


def _rule_scores(reader, rule):
    count = min(_RULE_SAMPLES, reader.samples.count)
    readings, labels = [], []
    for start in range(0, count, 1000):
        images, batch_labels = reader.read(range(start, min(start + 1000, count)))
        readings.append(rules.read_shapes(rule, images))
        labels.append(batch_labels)
    labels = None if reader.num_classes is None else np.concatenate(labels)
    scores = rules.score_reading(rule, rules.Reading.join(readings), labels)
    note = f"rule of {rule}, {count:,} samples"
    return [MetricValue(f"rule_{name}", value, None, note) for name, value in scores.items()]


def _similarities(reader, source):
    """MS-SSIM within classes, of samples and of equally many images of the data."""
    classes = reader.num_classes or 1
    per_class = max(4, min(30, 3000 // classes))
    images, labels = reader.read(range(min(reader.samples.count, per_class * classes)))
    scales, similarities = num_scales(images.shape[1]), class_similarities(images, labels)
    note = f"mean of {len(similarities)} class(es), random pairs of {len(images):,} samples, {scales} scales"
    details = {"by_class": {str(label): value for label, value in similarities.items()}}
    values = [MetricValue("ms_ssim_within_classes", _mean(similarities), None, note, details)]
    if source is not None and source.num_classes == reader.num_classes:
        similarities = class_similarities(*first_of_each_class(source, per_class, per_class * classes))
        note = note.replace("samples", "pictures")
        values.append(MetricValue("ms_ssim_of_the_data", _mean(similarities), None, note))
    return values


def _mean(similarities):
    return float(np.mean(list(similarities.values())))


def save_class_picture(reader, names, path):
    """Saves the first samples of each class, one row per class; `names` is None without classes. Returns the path."""
    rows = range(min(len(names), _CLASS_ROWS) if names else 8)
    indices = [index for row in rows for index in range(row * _CLASS_COLUMNS, (row + 1) * _CLASS_COLUMNS)]
    images, _ = reader.read(indices, np.repeat(rows, _CLASS_COLUMNS) if names else None)
    titles = tuple(names[row] if names else "" for row in rows)
    grid = images.reshape(len(rows), _CLASS_COLUMNS, *images.shape[1:])
    save_table(Table(grid, titles, (), "Samples, not chosen"), path)
    return path


def save_neighbour_picture(generated, reference, reader, source, path):
    """Saves samples beside their nearest neighbours in the data, which shows memorized images.

    Args:
        generated, reference: `FeatureSet`s with features.
        reader: `SampleReader`.
        source: `data.sources.Source` of the reference.
        path: Path of the picture.

    Returns:
        path.
    """
    rows = np.linspace(0, len(generated.features) - 1, _NEIGHBOUR_ROWS).astype(int)
    count = min(_NEIGHBOURS, len(reference.features))
    distances, nearest = nearest_neighbours(generated.features[rows], reference.features, count)
    neighbours = _load_images(source, reference.indices[nearest])
    samples, _ = reader.read(generated.indices[rows])
    titles = tuple(f"at {row[0]:.3g}" for row in distances)
    columns = ("sample", *(f"no. {i + 1}" for i in range(count)))
    title = f"Samples and their nearest neighbours in the {source.split} split, by features"
    save_table(Table(np.concatenate([samples[:, None], neighbours], axis=1), titles, columns, title), path)
    return path


def _load_images(source, indices):
    """Loads images of a source by an array of indices; returns the shape of the array, and S, S, C."""
    missing, images = set(indices.ravel().tolist()), {}
    for index, (load, _) in enumerate(source.reader.in_order()):
        if index in missing:
            images[index] = np.asarray(load())
            missing.remove(index)
            if not missing:
                break
    return np.stack([np.stack([images[index] for index in row]) for row in indices.tolist()])
