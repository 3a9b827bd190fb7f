"""Attention maps of a run as pictures, numbers, arrays and a page: what `python -m sagan_tf.attend` does."""

import dataclasses
import functools
import json
import sys
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from sagan_tf.commands.classes import choose_classes, class_names
from sagan_tf.data import embedded
from sagan_tf.data.sources import contact_sheet_images, open_source, translate_data_errors
from sagan_tf.errors import UserError
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.files.atomic import atomic_write, write_text
from sagan_tf.generation.pixels import from_levels, to_levels
from sagan_tf.generation.sampler import draw_latents_of
from sagan_tf.runs.folder import Run
from sagan_tf.viewing.attention import AttentionProbe
from sagan_tf.viewing.attention_measures import figures_table, measure, measure_symmetry
from sagan_tf.viewing.attention_pictures import make_row, save_rows
from sagan_tf.viewing.explorer import ExplorerData, save_explorer, shrink
from sagan_tf.viewing.query_points import choose_points

POINTS = 5  # A picture, as in the paper.
_EXPLORED = 16  # Pictures of an explorer.
_BATCH = 8  # Pictures looked at together, where their maps are not too large for it:
_BATCH_SCORES = 1 << 24  # scores of a layer; float32 and a few copies in float64.


@dataclass(frozen=True)
class Look:
    """What one network does with some pictures.

    Args:
        network: `generator` or `discriminator`.
        pictures: `generated` or `real`.
        images: (N, S, S, C) uint8.
        titles: N str.
        maps: dict, name of a layer -> `AttentionMaps` of the N pictures.
        figures: dict, name of a layer -> dict of `measure`, over more pictures.
        step: int.
    """

    network: str
    pictures: str
    images: np.ndarray
    titles: tuple
    maps: dict
    figures: dict
    step: int


def attend_run(options):
    """Draws and measures the attention maps of a run.

    Args:
        options: `AttendOptions`.

    Yields:
        pathlib.Path of each file, once it is complete; then str, a table of the figures.

    Raises:
        UserError: The run has no checkpoint or no attention, or its networks cannot do what is wished.
    """
    run = Run.open(options.run)
    if (options.network, options.pictures) == ("generator", "real"):
        raise UserError("--pictures real: the generator makes pictures and takes none; leave out --network generator.")
    out = options.out or run.path / "attention"
    if options.step == "all":
        yield from _over_training(run, options, out)
        return
    viewer = _Viewer(run, options)
    looks = viewer.looks(options.images or 4, options.measured)
    for look in looks:
        for name, maps in look.maps.items():
            rows = [make_row(maps, i, image, _points(look, name, i, options.points), look.titles[i])
                    for i, image in enumerate(look.images)]
            path = out / f"{look.network}_{name}_{look.pictures}_step_{look.step:08d}.png"
            save_rows(rows, path, _headline(look, name), options.columns)
            yield path
    summary = [{"network": look.network, "pictures": look.pictures, "step": look.step, **figures}
               for look in looks for figures in look.figures.values()]
    path = out / f"summary_step_{viewer.step:08d}.json"
    write_text(path, json.dumps(summary, indent=2) + "\n")
    yield path
    if options.npz:
        path = out / f"maps_step_{viewer.step:08d}.npz"
        arrays = _arrays(looks, options.points)
        with atomic_write(path) as temporary_path:
            np.savez_compressed(temporary_path, **arrays)
        yield path
    if options.explorer:
        path = out / f"explorer_step_{viewer.step:08d}.html"
        save_explorer(viewer.explored(options.images or _EXPLORED), path)
        yield path
    yield figures_table(summary)


class _Viewer:
    """The networks of a step with probes, and the pictures that they are shown."""

    def __init__(self, run, options, step=None):
        self.run, self.options = run, options
        networks = restore_networks(run, options.step if step is None else step, discriminator=True)
        self.config, self.step = run.config(), networks.step
        self.names = class_names(run, networks.num_classes)
        self.classes = choose_classes(options.classes, self.names)
        self._latent_dim = networks.generator.inputs[0].shape[-1]
        self._probes = {"generator": AttentionProbe(networks.generator)}
        if options.network != "generator":
            self._probes["discriminator"] = AttentionProbe(networks.discriminator)
        found = [name for network in self._wanted() for name in self._probes[network].layers]
        if not found:
            which = options.network or "run"
            raise UserError(f"{run.path}: the {which} has no attention layer; see *.attention_sizes in its config.")
        for name in options.layers or ():
            if name not in found:
                raise UserError(f"--layers: there is no layer `{name}`; there are {', '.join(dict.fromkeys(found))}.")

        size = self.config.data.image_size
        for x, y in options.points or ():
            if not (0 <= x < size and 0 <= y < size):
                raise UserError(f"--points: {x},{y} is outside the picture, which is {size} px wide and high.")

    def looks(self, drawn, measured):
        """All that was wished for, a list of `Look`s."""
        looks = []
        if self.options.pictures != "real":
            seeds = np.arange(self.options.seed, self.options.seed + max(drawn, measured))
            labels = self._labels(len(seeds))
            titles = [self._title(seed, i) for i, seed in enumerate(seeds)]
            inputs = with_labels(self._latents(seeds), labels)
            looks += self._generated(inputs, titles, drawn)
        if self.options.pictures != "generated" and "discriminator" in self._wanted():
            found = self._real(max(drawn, measured))
            if found is not None:
                images, titles = found
                inputs = with_labels(images, self._labels(len(images)))
                look = self._look("discriminator", "real", inputs, titles, drawn, images)[0]
                looks += [look] if look.maps else []
        return looks

    def explored(self, count):
        """The pictures of an explorer, `ExplorerData`."""
        labels = list(self.classes)[: min(4, count)] if self.classes else [None]
        seeds = range(self.options.seed, self.options.seed + max(1, count // len(labels)))
        pairs = [(seed, label) for label in labels for seed in seeds]
        each = None if labels[0] is None else np.int32([label for _, label in pairs])
        latents = self._latents([seed for seed, _ in pairs])
        looks = self._generated(with_labels(latents, each), [""] * len(pairs), len(pairs), shrink)
        names = ["" if label is None else self.classes[label] for _, label in pairs]
        maps = {(look.network, name): found for look in looks for name, found in look.maps.items()}
        title = f"{self.run.path.name}, step {self.step}"
        return ExplorerData(title, looks[0].images, tuple(names), tuple(seed for seed, _ in pairs), maps)

    def _generated(self, inputs, titles, drawn, keep=lambda maps: maps):
        """Looks of both networks at the pictures that the generator makes."""
        look, images = self._look("generator", "generated", inputs, titles, drawn, keep=keep)
        looks = [look]
        if "discriminator" in self._wanted():
            label = inputs[1] if isinstance(inputs, list) else None
            inputs = with_labels(images, label)
            looks.append(self._look("discriminator", "generated", inputs, titles, drawn, images, keep)[0])
        return [look for look in looks if look.network in self._wanted() and look.maps]

    def _look(self, network, pictures, inputs, titles, drawn, images=None, keep=lambda maps: maps):
        """Looks at all rows of inputs, keeps the maps of the first ones and the measures of all.

        Maps of large layers are large; no more than a batch of those that are only measured is kept.
        """
        rows = inputs if isinstance(inputs, list) else [inputs]
        outputs, kept, figures, weights = [], [], {}, []
        probe = self._probes[network]
        batch = max(1, min(_BATCH, _BATCH_SCORES // max(probe.scores_a_picture, 1)))
        starts = range(0, len(rows[0]), batch)
        for start in tqdm(starts, unit="batch", desc=f"{network}, {pictures}", leave=False, disable=len(starts) < 4):
            output, maps = probe.look([x[start : start + batch] for x in rows], batch)
            maps = {name: found for name, found in maps.items() if name in (self.options.layers or maps)}
            outputs.append(output)
            weights.append(len(output))
            if start < drawn:
                kept.append({name: keep(found) for name, found in maps.items()})
            for name, found in maps.items():
                figures.setdefault(name, []).append(self._measure(found))
        images = np.concatenate(outputs) if images is None else images
        maps = {name: _joined([part[name] for part in kept], drawn) for name in figures}
        means = {name: _mean(parts, weights) for name, parts in figures.items()}
        levels = to_levels(images[:drawn])
        return Look(network, pictures, levels, tuple(titles[:drawn]), maps, means, self.step), images

    def _measure(self, maps):
        figures = measure(maps, self.config.data.image_size)
        return figures | (measure_symmetry(maps) if self.config.data.name == "mirror" else {})

    def _wanted(self):
        return [self.options.network] if self.options.network else ["generator", "discriminator"]

    def _latents(self, seeds):
        return draw_latents_of(seeds, self._latent_dim, self.options.truncation)

    def _labels(self, count):
        """(N,) int32, the classes in turn; None without classes."""
        return None if self.classes is None else np.int32(np.resize(list(self.classes), count))

    def _title(self, seed, i):
        names = [f"{name}, " for name in (self.classes or {}).values()] or [""]
        return f"{names[i % len(names)]}seed {seed}"

    def _real(self, count):
        try:
            return real_pictures(self.config, count)
        except UserError as error:
            if self.options.pictures == "real":
                raise
            print(f"Real pictures are left out: {error}", file=sys.stderr)
            return None


def with_labels(x, labels):
    """The inputs of a network: `x` alone without labels, else a list of both."""
    return x if labels is None else [x, np.int32(labels)]


@functools.lru_cache(maxsize=1)  # One reading serves all steps.
def real_pictures(config, count):
    """Reads pictures of a run's data set, the classes in turn.

    Args:
        config: `Config`.
        count: int.

    Returns:
        (images (N, S, S, C) float32 in [-1, 1], N titles), N at most `count`.

    Raises:
        UserError: The data cannot be read here.
    """
    data = config.data
    if data.name in embedded.NAMES:
        images, labels = embedded.render(
            data.name, range(count), split=data.split, image_size=data.image_size, channels=data.image_channels
        )
        captions = [embedded.KINDS[label] for label in labels]
    else:
        with translate_data_errors(data.name):
            images, captions = contact_sheet_images(open_source(config.data), rows=1, columns=count)
    seen, turns = {}, []
    for caption in captions:
        turns.append(seen.get(caption, 0))
        seen[caption] = turns[-1] + 1
    order = np.argsort(turns, kind="stable")
    return from_levels(images[order]), tuple(f"{captions[i]}, real" for i in order)


def _over_training(run, options, out):
    """Rows by step of the same pictures and points; the points are those of the newest step."""
    steps = run.checkpoint_steps()
    if not steps:
        raise UserError(f"{run.checkpoints_path}: there is no checkpoint yet.")
    found = {}
    count = options.images or 2
    for step in tqdm(steps, unit="checkpoint", desc="looking", leave=False):
        for look in _Viewer(run, options, step).looks(count, count):
            for name in look.maps:
                found.setdefault((look.network, name, look.pictures), []).append(look)
    for (network, name, pictures), looks in found.items():
        rows = []
        for i in range(len(looks[-1].images)):
            points = _points(looks[-1], name, i, options.points)
            rows += [make_row(look.maps[name], i, look.images[i], points,
                              f"{look.titles[i]}, step {look.step}, gamma {look.maps[name].gamma:.3f}")
                     for look in looks]
        path = out / f"{network}_{name}_{pictures}_over_training.png"
        save_rows(rows, path, f"{network.capitalize()}, {name}, {pictures} pictures, over training", options.columns)
        yield path


def _points(look, name, picture, points):
    maps = look.maps[name]
    if points is None:
        return choose_points(maps.features[picture], look.images[picture], min(POINTS, maps.scores.shape[1]))
    height, width = maps.query_shape
    size = look.images.shape[1]
    return [(y * height // size, x * width // size) for x, y in points]


def _headline(look, name):
    figures = look.figures[name]
    return (f"{look.network.capitalize()}, {name}, {look.pictures} pictures, step {look.step}, "
            f"gamma {figures['gamma']:.3f}")


def _arrays(looks, points):
    arrays = {}
    for look in looks:
        for name, maps in look.maps.items():
            prefix = f"{look.network}/{name}/{look.pictures}"
            chosen = [_points(look, name, i, points) for i in range(len(look.images))]
            arrays |= {
                f"{prefix}/images": look.images,
                f"{prefix}/scores": maps.scores,
                f"{prefix}/points": np.int32(chosen),
                f"{prefix}/query_shape": np.int32(maps.query_shape),
                f"{prefix}/key_shape": np.int32(maps.key_shape),
                f"{prefix}/gamma": np.float32(maps.gamma),
            }
    return arrays


def _joined(parts, count):
    arrays = {name: np.concatenate([getattr(part, name) for part in parts])[:count] for name in ("scores", "features")}
    return dataclasses.replace(parts[0], **arrays)


def _mean(parts, weights):
    """Weighted means of the numbers of dicts; what is no number is the same in all."""
    numbers = [name for name, value in parts[0].items() if isinstance(value, float)]
    return parts[0] | {name: float(np.average([part[name] for part in parts], weights=weights)) for name in numbers}
