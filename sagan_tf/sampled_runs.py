"""Pictures of a run's generator as files: what `python -m sagan_tf.sample` does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from sagan_tf.errors import UserError
from sagan_tf.restored_networks import choose_classes, class_names, restore_networks
from sagan_tf.viewing import samplings
from sagan_tf.viewing.painter import WHOLE_DISTRIBUTION, Painter
from sagan_tf.viewing.tables import Table, save_animation, save_picture, save_table

_STATIONS = 4  # Latents that an animation goes through before it comes back.
_FRAMES_A_LEG = 24  # From one station to the next.


@dataclass(frozen=True)
class Wishes:
    """What to draw.

    Args:
        out: Folder; None: `pictures` in the run folder.
        step: int, of a checkpoint; None: the newest.
        seed: int, the first.
        columns: int >= 1, seeds a class.
        truncation: float > 0.
        classes: tuple of names and numbers, ("all",), or None for the first ones.
        sweep: tuple of truncations, or empty.
        interpolate: Some of `latents` and `classes`.
        frames: int >= 2, pictures of a strip.
        animate: `gif`, `webp` or None.
        files: int, single files; 0 for none.
    """

    out: Path | None = None
    step: int | None = None
    seed: int = 0
    columns: int = 8
    truncation: float = WHOLE_DISTRIBUTION
    classes: tuple[str, ...] | None = None
    sweep: tuple[float, ...] = ()
    interpolate: tuple[str, ...] = ()
    frames: int = 9
    animate: str | None = None
    files: int = 0


def sample_run(run, wishes):
    """Draws and writes pictures of a run's averaged generator.

    Args:
        run: `Run`.
        wishes: `Wishes`.

    Yields:
        pathlib.Path of each file or folder, once it is complete.

    Raises:
        UserError: The run has no generator yet, or its generator cannot do what is wished.
    """
    networks = restore_networks(run, wishes.step)
    classes = choose_classes(wishes.classes, class_names(run, networks.num_classes))
    if "classes" in wishes.interpolate and (classes is None or len(classes) < 2):
        reason = "the model has no classes" if classes is None else "one class has no way to another"
        raise UserError(f"--interpolate classes: {reason}.")
    painter = Painter(networks.generator)
    out = wishes.out or run.path / "pictures"
    yield from _draw(painter, classes, wishes, out)


def _draw(painter, classes, wishes, out):
    seeds = range(wishes.seed, wishes.seed + wishes.columns * (1 if classes else 8))
    if wishes.files:
        yield _single_files(painter, classes, wishes, out / "samples")
    if wishes.sweep:
        yield _table(samplings.truncation_sweep(painter, classes, wishes.seed, wishes.sweep), out / "truncation.png")
    fractions = np.linspace(0, 1, wishes.frames)
    for way, draw in (("latents", samplings.latent_ways), ("classes", samplings.class_ways)):
        if way in wishes.interpolate:
            yield _table(draw(painter, classes, wishes.seed, fractions), out / f"between_{way}.png")
    if wishes.animate:
        for way in wishes.interpolate or ("latents",):
            yield _animation(painter, classes, wishes, way, out / f"between_{way}.{wishes.animate}")
    if not (wishes.files or wishes.sweep or wishes.interpolate or wishes.animate):
        yield _table(samplings.class_grid(painter, classes, seeds, wishes.truncation), out / "grid.png")


def _table(table, path):
    save_table(table, path)
    return path


def _animation(painter, classes, wishes, way, path):
    if way == "classes":
        seeds = range(wishes.seed, wishes.seed + wishes.columns)
        ways = [[(seed, label) for label in classes] for seed in seeds]
        titles = ("",)
    else:
        starts = range(wishes.seed, wishes.seed + _STATIONS * min(wishes.columns, 4), _STATIONS)
        ways = [[(start + i, label) for i in range(_STATIONS)] for label in classes or [None] for start in starts]
        titles = tuple(classes.values()) if classes else ("",)
    tracks = []
    for way in tqdm(ways, unit="way", desc="interpolating", leave=False):
        tracks.append(samplings.ring(painter, way, _FRAMES_A_LEG))
    rows = len(titles)
    shape = (rows, len(tracks) // rows, *painter.image_shape)
    frames = [Table(np.reshape(images, shape), titles) for images in np.stack(tracks, axis=1)]
    save_animation(frames, path)
    return path


def _single_files(painter, classes, wishes, folder):
    """Writes N files, the classes in turn; memory holds a batch of them."""
    labels = list(classes) if classes else [None]
    seeds = range(wishes.seed, wishes.seed + wishes.files)
    with tqdm(total=wishes.files, unit="img", desc="writing", leave=False) as bar:
        for start in range(0, wishes.files, painter.batch_size):
            part = seeds[start : start + painter.batch_size]
            mine = [labels[(seed - wishes.seed) % len(labels)] for seed in part]
            images = painter.sample(part, mine if classes else None, wishes.truncation)
            for seed, label, image in zip(part, mine, images):
                name = classes[label] if classes else None
                save_picture(image, folder / samplings.file_name(label, name, seed))
            bar.update(len(part))
    return folder
