"""What one can ask a sampler: classes by seeds, a truncation sweep, ways between latents and between classes."""

import re

import numpy as np

from sagan_tf.generation.latents import NO_TRUNCATION
from sagan_tf.viewing.image_grids import Table


def class_grid(sampler, classes, seeds, truncation=NO_TRUNCATION):
    """A row a class, a column a seed; without classes rows of eight seeds.

    Args:
        sampler: `Sampler`.
        classes: dict, label -> name; None without classes.
        seeds: ints.
        truncation: float > 0.

    Returns:
        Table.
    """
    cut = "" if truncation >= NO_TRUNCATION else f", truncation {truncation:g}"
    if classes is None:
        columns = min(8, len(seeds))
        seeds = list(seeds)[: len(seeds) // columns * columns]
        images = sampler.sample(seeds, None, truncation).reshape(-1, columns, *sampler.image_shape)
        titles = [f"seeds {part[0]} .. {part[-1]}" for part in np.reshape(seeds, (-1, columns))]
        return Table(images, tuple(titles), (), f"Seeds {seeds[0]} .. {seeds[-1]}{cut}")
    images = _rows(sampler, [[(seed, label, truncation) for seed in seeds] for label in classes])
    return Table(images, tuple(classes.values()), tuple(f"seed {seed}" for seed in seeds), f"Samples by class{cut}")


def truncation_sweep(sampler, classes, seed, truncations):
    """The same latents cut off at one value after the other, a row a class; without classes eight seeds.

    Args:
        sampler: `Sampler`.
        classes: dict, label -> name; None without classes.
        seed: int.
        truncations: floats > 0.

    Returns:
        Table.
    """
    starts = _starts(classes, seed)
    images = _rows(sampler, [[(s, label, cut) for cut in truncations] for s, label, _ in starts])
    columns = tuple("none" if cut >= NO_TRUNCATION else f"{cut:g}" for cut in truncations)
    seeds = f", seed {seed}" if classes else ""
    return Table(images, tuple(title for *_, title in starts), columns, f"Truncation of the latent{seeds}")


def latent_ways(sampler, classes, seed, fractions):
    """From the latent of a seed to that of the next, a row a class; without classes from eight seeds.

    Args:
        sampler: `Sampler`.
        classes: dict, label -> name; None without classes.
        seed: int.
        fractions: floats in [0, 1].

    Returns:
        Table.
    """
    starts = _starts(classes, seed)
    images = [sampler.interpolate((s, label), (s + 1, label), fractions) for s, label, _ in starts]
    titles = tuple(name if classes else f"{s} to {s + 1}" for s, _, name in starts)
    title = f"Between seeds {seed} and {seed + 1}" if classes else "Between seeds"
    return Table(np.stack(images), titles, _percent(fractions), title)


def class_ways(sampler, classes, seed, fractions):
    """From each class to the next, and from the last to the first, with the latent of one seed.

    Args:
        sampler: `Sampler` with classes.
        classes: dict, label -> name, two or more.
        seed: int.
        fractions: floats in [0, 1].

    Returns:
        Table.

    Raises:
        ValueError: There are fewer than two classes.
    """
    if not classes or len(classes) < 2:
        raise ValueError(f"`classes` must be two or more. Received: {classes}.")
    labels = list(classes)
    pairs = list(zip(labels, labels[1:] + labels[:1]))[: 1 if len(labels) == 2 else None]
    images = [sampler.interpolate((seed, first), (seed, last), fractions) for first, last in pairs]
    titles = tuple(f"{classes[first]} to {classes[last]}" for first, last in pairs)
    return Table(np.stack(images), titles, _percent(fractions), f"Between classes, seed {seed}")


def ring(sampler, stations, frames):
    """A way through stations and back to the first, for an animation without a jump.

    Args:
        sampler: `Sampler`.
        stations: (seed, label or None) each, two or more.
        frames: int >= 1, pictures from a station to the next.

    Returns:
        (len(stations) * frames, S, S, C) uint8.
    """
    # Slow at the stations, so that the eye gets hold of them.
    fractions = (1 - np.cos(np.pi * np.arange(frames) / frames)) / 2
    pairs = zip(stations, [*stations[1:], stations[0]])
    return np.concatenate([sampler.interpolate(first, last, fractions) for first, last in pairs])


def file_name(label, name, seed):
    """Names the file of one sample by class and seed.

    Args:
        label: int, or None without classes.
        name: Class name, or None.
        seed: int.

    Returns:
        str, such as `class_0002_square_seed_00000017.png`.
    """
    if label is None:
        return f"seed_{seed:08d}.png"
    # Class names come from folders and data sets; a file name holds plain letters on every system.
    plain = re.sub(r"[^\w-]+", "_", name or "").strip("_")[:40]
    return f"class_{label:04d}_{plain + '_' if plain else ''}seed_{seed:08d}.png"


def _starts(classes, seed):
    if classes is None:
        return [(seed + i, None, f"seed {seed + i}") for i in range(8)]
    return [(seed, label, name) for label, name in classes.items()]


def _rows(sampler, cells):
    seeds, labels, cuts = (list(values) for values in zip(*(cell for row in cells for cell in row)))
    images = sampler.sample(seeds, None if labels[0] is None else labels, np.float32(cuts))
    return images.reshape(len(cells), len(cells[0]), *images.shape[1:])


def _percent(fractions):
    return tuple(f"{100 * fraction:.0f} %" for fraction in fractions)
