"""Tables of samples: classes by seeds, truncation sweeps, interpolations, directions."""

import re

import numpy as np

from sagan_tf.generation.truncation import NO_TRUNCATION, truncation_text
from sagan_tf.viewing.image_grids import Table

_SEEDS_PER_ROW = 8  # without classes

# In all functions: `sampler` is a `Sampler`, and `classes` a dict, label -> name, or None without classes.


def class_grid(sampler, classes, seeds, truncation=NO_TRUNCATION):
    """Makes a `Table` with one row per class and one column per seed; without classes, rows of eight seeds."""
    suffix = _truncated(truncation)
    if classes is None:
        columns = min(_SEEDS_PER_ROW, len(seeds))
        seeds = np.reshape(seeds[: len(seeds) // columns * columns], (-1, columns))
        images = sampler.sample(seeds.ravel(), None, truncation).reshape(*seeds.shape, *sampler.image_shape)
        titles = tuple(f"seeds {row[0]} .. {row[-1]}" for row in seeds)
        return Table(images, titles, (), f"Seeds {seeds[0, 0]} .. {seeds[-1, -1]}{suffix}")
    images = _sample_rows(sampler, [[(seed, label, truncation) for seed in seeds] for label in classes])
    return Table(images, tuple(classes.values()), tuple(f"seed {seed}" for seed in seeds), f"Samples by class{suffix}")


def truncation_sweep(sampler, classes, seed, truncations):
    """Makes a `Table` of one seed at several truncations, one row per class; without classes, of eight seeds."""
    rows = _first_samples(classes, seed)
    images = _sample_rows(sampler, [[(s, label, truncation) for truncation in truncations] for s, label, _ in rows])
    columns = tuple(map(truncation_text, truncations))
    suffix = f", seed {seed}" if classes else ""
    return Table(images, tuple(title for *_, title in rows), columns, f"Truncation of the latent{suffix}")


def latent_interpolations(sampler, classes, seed, fractions, truncation=NO_TRUNCATION):
    """Makes a `Table` from each seed to the next, one row per class; without classes, from eight seeds."""
    rows = _first_samples(classes, seed)
    images = [sampler.interpolate((s, label), (s + 1, label), fractions, truncation) for s, label, _ in rows]
    titles = tuple(name if classes else f"{s} to {s + 1}" for s, _, name in rows)
    title = f"Between seeds {seed} and {seed + 1}" if classes else "Between seeds"
    return Table(np.stack(images), titles, _percent(fractions), title + _truncated(truncation))


def class_interpolations(sampler, classes, seed, fractions, truncation=NO_TRUNCATION):
    """Makes a `Table` from each class to the next, and from the last to the first, for the latent of one seed.

    Raises ValueError for fewer than two classes.
    """
    if not classes or len(classes) < 2:
        raise ValueError(f"`classes` must be two or more. Received: {classes}.")
    labels = list(classes)
    pairs = list(zip(labels, labels[1:] + labels[:1]))[: 1 if len(labels) == 2 else None]
    images = [sampler.interpolate((seed, start), (seed, end), fractions, truncation) for start, end in pairs]
    titles = tuple(f"{classes[start]} to {classes[end]}" for start, end in pairs)
    return Table(np.stack(images), titles, _percent(fractions), f"Between classes, seed {seed}{_truncated(truncation)}")


def direction_strips(sampler, classes, seed, directions, distances, truncation=NO_TRUNCATION):
    """Makes a `Table` of the latent of one seed moved along directions, one row per direction and class.

    `directions` is a dict, name -> (D,), and `distances` are multiples of them.
    """
    rows = [(name, label) for name in directions for label in classes or [None]]
    steps = np.concatenate([np.outer(distances, directions[name]) for name, _ in rows])
    labels = np.repeat([label for _, label in rows], len(distances)) if classes else None
    images = sampler.sample_moved(np.full(len(steps), seed), labels, steps, truncation)
    several, suffix = len(classes or ()) > 1, f", seed {seed}"
    if classes and not several:
        suffix += f", {classes[rows[0][1]]}"
    return Table(
        images.reshape(len(rows), len(distances), *images.shape[1:]),
        tuple(f"{name}, {classes[label]}" if several else name for name, label in rows),
        tuple(f"{distance:+.3g}" if distance else "0" for distance in distances),
        f"Along directions of the latent{suffix}{_truncated(truncation)}",
    )


def interpolation_loop(sampler, stops, frames, truncation=NO_TRUNCATION):
    """Interpolates through stops, (seed, label or None) each, and back to the first: an animation without a jump.

    Returns (number of stops * frames, H, W, C) uint8.
    """
    # Slower near the stops, so that they can be seen.
    fractions = (1 - np.cos(np.pi * np.arange(frames) / frames)) / 2
    pairs = zip(stops, [*stops[1:], stops[0]])
    return np.concatenate([sampler.interpolate(start, end, fractions, truncation) for start, end in pairs])


def file_name(label, name, seed):
    """The file name of a sample, such as `class_0002_square_seed_00000017.png`; `label` is None without classes."""
    if label is None:
        return f"seed_{seed:08d}.png"
    # Class names come from folders and data sets; not all characters are safe in file names.
    safe_name = re.sub(r"[^\w-]+", "_", name).strip("_")[:40]
    return f"class_{label:04d}_{safe_name + '_' if safe_name else ''}seed_{seed:08d}.png"


def _first_samples(classes, seed):
    """(seed, label, title) of each row: one per class, or eight seeds."""
    if classes is None:
        return [(seed + i, None, f"seed {seed + i}") for i in range(_SEEDS_PER_ROW)]
    return [(seed, label, name) for label, name in classes.items()]


def _sample_rows(sampler, rows):
    """Samples rows of (seed, label, truncation): (rows, columns, H, W, C) uint8."""
    seeds, labels, truncations = (list(values) for values in zip(*(cell for row in rows for cell in row)))
    images = sampler.sample(seeds, None if labels[0] is None else labels, truncations)
    return images.reshape(len(rows), len(rows[0]), *images.shape[1:])


def _percent(fractions):
    return tuple(f"{100 * fraction:.0f} %" for fraction in fractions)


def _truncated(truncation):
    return "" if truncation >= NO_TRUNCATION else f", truncation {truncation:g}"
