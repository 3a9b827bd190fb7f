"""Metrics and images of an evaluation that are made from images, not from features."""

import numpy as np

from sagan_tf.data import rules
from sagan_tf.data.sources import some_of_each_class
from sagan_tf.evaluation.metrics import MetricValue
from sagan_tf.evaluation.ms_ssim import class_similarities, num_scales
from sagan_tf.evaluation.pixel_neighbors import REDUCED_SIZE, pixel_neighbors
from sagan_tf.evaluation.precision_recall import nearest_neighbors
from sagan_tf.generation.truncation import truncation_text
from sagan_tf.viewing.image_files import save_png
from sagan_tf.viewing.image_grids import Table, save_table
from sagan_tf.viewing.line_charts import LineChart, draw_charts

_RULE_SAMPLES = 10_000
_NEAREST_SAMPLES = 500
_NEIGHBOR_ROWS, _NEIGHBORS = 8, 7
_CLASS_ROWS, _CLASS_COLUMNS = 20, 10


class SampleReader:
    """Generates the images of an evaluation's samples by their indices.

    Args:
        sampler: `Sampler`.
        samples: `SampleSet`.
    """

    def __init__(self, sampler, samples):
        self.sampler, self.samples = sampler, samples
        self.count, self.num_classes, self.image_shape = samples.count, sampler.num_classes, sampler.image_shape

    def read(self, indices, labels=None):
        """Returns (images (n, H, W, C) uint8, labels (n,) or None); `labels` replaces the samples' own."""
        indices = np.asarray(indices, np.int64)
        if labels is None and self.num_classes is not None:
            labels = np.array([self.samples.labels(index, index + 1, self.num_classes)[0] for index in indices])
        return self.sampler.sample(self.samples.seed + indices, labels, self.samples.truncation), labels


class ImageReader:
    """Reads the images of an evaluated folder in a random order, so that the first ones are of all classes.

    Args:
        source: `data.sources.Source`.
        has_labels: bool. Whether its labels are those of the reference.
    """

    def __init__(self, source, has_labels):
        self._source, self._labels = source, source.reader.labels if has_labels else None
        self.count, self.image_shape = source.num_images, source.image_shape
        self.num_classes = source.num_classes if has_labels else None
        self._order = np.random.default_rng(0).permutation(self.count)

    def read(self, indices):
        """Returns (images (n, H, W, C) uint8, labels (n,) or None)."""
        indices = self._order[np.asarray(indices, np.int64)]
        return _load_images(self._source, indices), None if self._labels is None else self._labels[indices]


def image_metrics(reader, source, names, rule, num_reference):
    """Computes the metrics that are made from images.

    Args:
        reader: `SampleReader` or `ImageReader`.
        source: `data.sources.Source` of the reference, or None.
        names: Some of `IMAGE_METRICS`.
        rule: Name of the embedded data set whose rule the samples should follow, or None.
        num_reference: int, images of the reference among which nearest ones are searched.

    Returns:
        (list of `MetricValue`, dict of the metrics that cannot be computed -> reason).
    """
    values, left_out = [], {}
    for name in names:
        reason = _obstacle(name, reader, source, rule)
        if reason:
            left_out[name] = reason
        elif name == "ms_ssim":
            values += _similarities(reader, source)
        elif name == "nearest":
            values += _nearest_distances(reader, source, num_reference)
        else:
            scores, undefined = _rule_scores(reader, rule)
            values += scores
            left_out |= undefined
    return values, left_out


def _obstacle(name, reader, source, rule):
    """Why a metric cannot be computed; None if it can."""
    if name == "ms_ssim":
        if not num_scales(min(reader.image_shape[:2])):
            return "the images are too small"
        few = reader.count < 2 * (reader.num_classes or 1)
        return "there are fewer than two samples per class" if few else None
    if name == "nearest":
        return "the reference holds no images" if source is None else None
    return "the data set has no rule that images can be checked by" if rule is None else None


def _nearest_distances(reader, source, num_reference):
    """Distances from samples, and from images of the data, to the nearest other image of the data."""
    queries, _ = reader.read(range(min(_NEAREST_SAMPLES, reader.count)))
    distances, _ = pixel_neighbors(queries, source.reader, 1, num_reference)
    searched = min(num_reference, source.num_images)
    note = (
        f"median root mean square of {len(queries):,} samples, in levels of 0 to 255 at about {REDUCED_SIZE} px, "
        f"among {searched:,} images"
    )
    details = {"smallest": float(distances.min())}
    values = [MetricValue("nearest_picture", float(np.median(distances)), None, note, details)]
    if searched >= 2:
        chosen = np.linspace(0, source.num_images - 1, min(_NEAREST_SAMPLES, source.num_images)).astype(int)
        distances, nearest = pixel_neighbors(_load_images(source, chosen), source.reader, 2, num_reference)
        # The image itself is among them if it was searched.
        distances = np.where(nearest[:, 0] == chosen, distances[:, 1], distances[:, 0])
        note = f"median of {len(chosen):,} images; samples far below it are copies"
        values.append(MetricValue("nearest_picture_of_the_data", float(np.median(distances)), None, note))
    return values


def _rule_scores(reader, rule):
    count = min(_RULE_SAMPLES, reader.count)
    readings, labels, is_gray = [], [], True
    for start in range(0, count, 1000):
        images, batch_labels = reader.read(range(start, min(start + 1000, count)))
        readings.append(rules.read_shapes(rule, images))
        labels.append(batch_labels)
        is_gray &= images.shape[-1] == 3 and bool((images[..., :1] == images).all())
    labels = None if reader.num_classes is None else np.concatenate(labels)
    scores = rules.score_reading(rule, rules.Reading.join(readings), labels)
    if is_gray:
        return [], dict.fromkeys((f"rule_{name}" for name in scores), "the images are gray, the rule is about colors")
    note = f"rule of {rule}, {count:,} samples"
    undefined = {f"rule_{name}": "no sample follows the layout" for name, value in scores.items() if np.isnan(value)}
    values = [MetricValue(f"rule_{name}", value, None, note) for name, value in scores.items() if not np.isnan(value)]
    return values, undefined


def _similarities(reader, source):
    """MS-SSIM within classes, of samples and of equally many images of the data."""
    classes = reader.num_classes or 1
    per_class = max(4, min(30, 3000 // classes))
    images, labels = reader.read(range(min(reader.count, per_class * classes)))
    scales, similarities = num_scales(min(images.shape[1:3])), class_similarities(images, labels)
    note = "mean of {} class(es), random pairs of {:,} {}, {} scales"
    details = {"by_class": {str(label): value for label, value in similarities.items()}}
    of_samples = note.format(len(similarities), len(images), "samples", scales)
    values = [MetricValue("ms_ssim_within_classes", _mean(similarities), None, of_samples, details)]
    if source is not None and source.num_classes == reader.num_classes:
        images, labels = some_of_each_class(source, per_class, per_class * classes)
        similarities = class_similarities(images, labels)
        if not similarities:  # no class has two images
            return values
        of_data = note.format(len(similarities), len(images), "images", scales)
        values.append(MetricValue("ms_ssim_of_the_data", _mean(similarities), None, of_data))
    return values


def _mean(similarities):
    return float(np.mean(list(similarities.values())))


def save_class_image(reader, names, path):
    """Saves ten samples of each class, from the first seed on, one row per class; returns the path.

    `names` is None without classes.
    """
    rows = range(min(len(names), _CLASS_ROWS) if names else 8)
    indices = [index for row in rows for index in range(row * _CLASS_COLUMNS, (row + 1) * _CLASS_COLUMNS)]
    images, _ = reader.read(indices, np.repeat(rows, _CLASS_COLUMNS) if names else None)
    titles = tuple(names[row] if names else "" for row in rows)
    grid = images.reshape(len(rows), _CLASS_COLUMNS, *images.shape[1:])
    save_table(Table(grid, titles, (), "Uncurated samples"), path)
    return path


def save_truncation_curve(curve, is_inception, count, path):
    """Saves the metrics of a truncation curve, as in a `Result`, of `count` samples each. Returns the path."""
    labels = tuple(truncation_text(truncation) for truncation, _ in curve)
    charts = []
    for values in zip(*(metrics for _, metrics in curve)):
        title, errors = values[0].title(is_inception), tuple(metric.error for metric in values)
        title, errors = (title, None) if None in errors else (f"{title} ± its error", errors)
        charts.append(LineChart(title, labels, tuple(metric.value for metric in values), errors))
    save_png(draw_charts(charts, f"Against the truncation of latents, {count:,} samples each"), path)
    return path


def save_feature_neighbors(generated, reference, reader, source, path):
    """Saves samples beside their nearest neighbors in the data by features, which shows memorized images.

    Args:
        generated, reference: `FeatureSet`s with features.
        reader: `SampleReader`.
        source: `data.sources.Source` of the reference.
        path: Path of the image.

    Returns:
        path.
    """
    rows = np.linspace(0, len(generated.features) - 1, _NEIGHBOR_ROWS).astype(int)
    count = min(_NEIGHBORS, len(reference.features))
    distances, nearest = nearest_neighbors(generated.features[rows], reference.features, count)
    samples, _ = reader.read(generated.indices[rows])
    return _save_neighbors(samples, distances, reference.indices[nearest], source, path, "features")


def save_pixel_neighbors(reader, source, num_reference, path):
    """Saves samples beside their nearest neighbors in the data by pixels; arguments as in `image_metrics`."""
    samples, _ = reader.read(np.linspace(0, reader.count - 1, min(_NEIGHBOR_ROWS, reader.count)).astype(int))
    count = min(_NEIGHBORS, num_reference, source.num_images)
    distances, nearest = pixel_neighbors(samples, source.reader, count, num_reference)
    return _save_neighbors(samples, distances, nearest, source, path, "pixels")


def _save_neighbors(samples, distances, nearest, source, path, measure):
    titles = tuple(f"at {row[0]:.3g}" for row in distances)
    columns = ("sample", *(f"no. {i + 1}" for i in range(nearest.shape[1])))
    title = f"Samples and their nearest neighbors in the {source.split} split, by {measure}"
    grid = np.concatenate([samples[:, None], _load_images(source, nearest)], axis=1)
    save_table(Table(grid, titles, columns, title), path)
    return path


def _load_images(source, indices):
    """Loads images of a source by an array of indices: an array of its shape, and H, W, C."""
    different, positions = np.unique(indices, return_inverse=True)
    return source.reader.load(different)[positions.reshape(indices.shape)]
