"""Figures and files that look at samples and pictures of the data, where those of features do not."""

import numpy as np

from sagan_tf.data import rules
from sagan_tf.data.sources import first_of_each_class
from sagan_tf.evaluation.metrics import MetricValue
from sagan_tf.evaluation.ms_ssim import class_similarities, num_scales
from sagan_tf.evaluation.precision_recall import nearest_neighbours
from sagan_tf.viewing.image_grids import Table, save_table

_RULE_SAMPLES = 10_000
_NEIGHBOUR_ROWS, _NEIGHBOURS = 8, 7
_CLASSES_SHOWN, _COLUMNS = 20, 10


class SampleReader:
    """The images of an evaluation's samples by their numbers.

    Args:
        sampler: `Sampler`.
        samples: `Samples`.
    """

    def __init__(self, sampler, samples):
        self._sampler, self.samples, self.num_classes = sampler, samples, sampler.num_classes

    def read(self, numbers, labels=None):
        """Generates samples, with labels of their own or those given: (uint8 (n, S, S, C), (n,) labels or None)."""
        numbers = np.asarray(numbers, np.int64)
        if labels is None and self.num_classes is not None:
            labels = np.array([self.samples.labels(number, number + 1, self.num_classes)[0] for number in numbers])
        return self._sampler.sample(self.samples.seed + numbers, labels, self.samples.truncation), labels


def picture_figures(reader, source, wanted, rule_of):
    """Measures what is told from pictures, not from features.

    Args:
        reader: `SampleReader`.
        source: `data.sources.Source` of the reference, or None.
        wanted: Some of `PICTURE_METRICS`.
        rule_of: Name of the embedded data set whose rule is to be kept, or None.

    Returns:
        (list of `MetricValue`, dict of the metrics that cannot be told -> reason).
    """
    figures, left_out = [], {}
    if "ms_ssim" in wanted:
        found, reason = _similarities(reader, source)
        figures, left_out = figures + found, left_out | ({"ms_ssim": reason} if reason else {})
    if "rule" in wanted and rule_of is None:
        left_out["rule"] = "the data set has no rule that pictures can be checked by"
    elif "rule" in wanted:
        count = min(_RULE_SAMPLES, reader.samples.count)
        readings, labels = [], []
        for start in range(0, count, 1000):
            images, mine = reader.read(range(start, min(start + 1000, count)))
            readings.append(rules.read_shapes(rule_of, images))
            labels.append(mine)
        joined = None if reader.num_classes is None else np.concatenate(labels)
        found = rules.score_reading(rule_of, rules.Reading.join(readings), joined)
        note = f"rule of {rule_of}, {count:,} samples"
        figures += [MetricValue(f"rule_{name}", value, None, note) for name, value in found.items()]
    return figures, left_out


def _similarities(reader, source):
    """MS-SSIM within classes of samples, and of as many pictures of the data."""
    classes = reader.num_classes or 1
    a_class = max(4, min(30, 3000 // classes))
    if reader.samples.count < 2 * classes:
        return [], "there are fewer than two samples a class"
    images, labels = reader.read(range(min(reader.samples.count, a_class * classes)))
    scales = num_scales(images.shape[1])
    found = class_similarities(images, labels)
    note = f"mean of {len(found)} class(es), random pairs of {len(images):,} samples, {scales} scales"
    by_class = {"by_class": {str(label): value for label, value in found.items()}}
    figures = [MetricValue("ms_ssim_within_classes", float(np.mean(list(found.values()))), None, note, by_class)]
    if source is not None and source.num_classes == reader.num_classes:
        found = class_similarities(*first_of_each_class(source, a_class, a_class * classes))
        note = note.replace("samples", "pictures")
        figures.append(MetricValue("ms_ssim_of_the_data", float(np.mean(list(found.values()))), None, note))
    return figures, None


def save_class_picture(reader, names, path):
    """Writes a picture with a row a class, the first samples of each.

    Args:
        reader: `SampleReader`.
        names: Names of the classes, or None.
        path: Of the file.

    Returns:
        path.
    """
    rows = len(names) if names else 8
    shown = list(range(min(rows, _CLASSES_SHOWN)))
    numbers = [number for row in shown for number in range(row * _COLUMNS, (row + 1) * _COLUMNS)]
    labels = np.repeat(shown, _COLUMNS) if names else None
    images, _ = reader.read(numbers, labels)
    titles = tuple(names[row] for row in shown) if names else ("",) * len(shown)
    save_table(Table(images.reshape(len(shown), _COLUMNS, *images.shape[1:]), titles, (), "Samples, not chosen"), path)
    return path


def save_neighbour_picture(generated, reference, reader, source, path):
    """Writes a picture of samples beside those of the data whose features are nearest: what is memorised finds itself.

    Args:
        generated, reference: `FeatureSet`s with features.
        reader: `SampleReader`.
        source: `data.sources.Source` of the reference.
        path: Of the file.

    Returns:
        path.
    """
    numbers = np.linspace(0, len(generated.features) - 1, _NEIGHBOUR_ROWS).astype(int)
    count = min(_NEIGHBOURS, len(reference.features))
    distances, nearest = nearest_neighbours(generated.features[numbers], reference.features, count)
    wanted = set(reference.indices[nearest].ravel().tolist())
    loaded = {}
    for number, (load, _) in enumerate(source.reader.in_order()):
        if number in wanted:
            loaded[number] = np.asarray(load())
            if len(loaded) == len(wanted):
                break
    samples, _ = reader.read(generated.indices[numbers])
    rows = [
        np.stack([sample, *(loaded[int(i)] for i in reference.indices[row])]) for sample, row in zip(samples, nearest)
    ]
    titles = tuple(f"at {row[0]:.3g}" for row in distances)
    columns = ("sample", *(f"no. {i + 1}" for i in range(count)))
    title = f"Samples and their nearest neighbours in the {source.split} split, by features"
    save_table(Table(np.stack(rows), titles, columns, title), path)
    return path
