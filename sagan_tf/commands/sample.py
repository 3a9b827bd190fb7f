"""Pictures of a run's generator as files: what `python -m sagan_tf.sample` does."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from sagan_tf.errors import UserError
from sagan_tf.experiment.loading import choose_classes, class_names, restore_networks
from sagan_tf.files.hashing import sha256_of_parts
from sagan_tf.files.shared_work import SharedFolder, split_batches
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.latents import NO_TRUNCATION
from sagan_tf.generation.sampler import Sampler
from sagan_tf.training.workers import read_worker
from sagan_tf.viewing import samplings
from sagan_tf.viewing.image_files import save_animation, save_image
from sagan_tf.viewing.image_grids import Table, draw_table, save_table

_STATIONS = 4  # Latents that an animation goes through before it comes back.
_FRAMES_A_LEG = 24  # From one station to the next.
_WORKERS_MINUTES = 30  # That the chief waits for another worker's next picture.


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
    truncation: float = NO_TRUNCATION
    classes: tuple[str, ...] | None = None
    sweep: tuple[float, ...] = ()
    interpolate: tuple[str, ...] = ()
    frames: int = 9
    animate: str | None = None
    files: int = 0


def sample_run(run, wishes):
    """Draws and writes pictures of a run's averaged generator.

    Where `TF_CONFIG` names several workers, they share the single files; the rest is drawn by the chief alone.

    Args:
        run: `Run`.
        wishes: `Wishes`.

    Yields:
        pathlib.Path of each file or folder, once it is complete; nothing on workers but the chief.

    Raises:
        UserError: The run has no generator yet, its generator cannot do what is wished, `TF_CONFIG` cannot be used, or
            another worker's pictures did not come.
    """
    worker = read_worker()
    networks = restore_networks(run, wishes.step)
    classes = choose_classes(wishes.classes, class_names(run, networks.num_classes))
    if "classes" in wishes.interpolate and (classes is None or len(classes) < 2):
        reason = "the model has no classes" if classes is None else "one class has no way to another"
        raise UserError(f"--interpolate classes: {reason}.")
    sampler = Sampler(fold_generator(networks.generator))
    out = wishes.out or run.path / "pictures"
    if wishes.files:
        folder = out / "samples"
        if worker.count == 1:
            _write_files(sampler, classes, wishes, folder, split_batches(wishes.files, sampler.batch_size))
        else:
            _write_share(sampler, classes, wishes, folder, worker, _digest(networks.generator))
        if worker.is_chief:
            yield folder
    if worker.is_chief:
        yield from _draw(sampler, classes, wishes, out)


def _draw(sampler, classes, wishes, out):
    seeds = range(wishes.seed, wishes.seed + wishes.columns * (1 if classes else 8))
    if wishes.sweep:
        yield _table(samplings.truncation_sweep(sampler, classes, wishes.seed, wishes.sweep), out / "truncation.png")
    fractions = np.linspace(0, 1, wishes.frames)
    for way, draw in (("latents", samplings.latent_ways), ("classes", samplings.class_ways)):
        if way in wishes.interpolate:
            yield _table(draw(sampler, classes, wishes.seed, fractions), out / f"between_{way}.png")
    if wishes.animate:
        for way in wishes.interpolate or ("latents",):
            yield _animation(sampler, classes, wishes, way, out / f"between_{way}.{wishes.animate}")
    if not (wishes.files or wishes.sweep or wishes.interpolate or wishes.animate):
        yield _table(samplings.class_grid(sampler, classes, seeds, wishes.truncation), out / "grid.png")


def _table(table, path):
    save_table(table, path)
    return path


def _animation(sampler, classes, wishes, way, path):
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
        tracks.append(samplings.ring(sampler, way, _FRAMES_A_LEG))
    rows = len(titles)
    shape = (rows, len(tracks) // rows, *sampler.image_shape)
    frames = [draw_table(Table(np.reshape(images, shape), titles)) for images in np.stack(tracks, axis=1)]
    save_animation(frames, path)
    return path


def _label(classes, i):
    """Class of picture i of the single files, the classes in turn; None without classes."""
    return list(classes)[i % len(classes)] if classes else None


def _file_names(classes, wishes):
    labels = [_label(classes, i) for i in range(wishes.files)]
    names = [classes[label] if classes else None for label in labels]
    return [samplings.file_name(*both, wishes.seed + i) for i, both in enumerate(zip(labels, names))]


def _write_files(sampler, classes, wishes, folder, batches, wrote=None):
    """Writes some batches of the single files, and calls `wrote()` after each; memory holds one."""
    names = _file_names(classes, wishes)
    with tqdm(total=wishes.files, unit="img", desc="writing", leave=False, disable=wrote is not None) as bar:
        for batch in batches:
            labels = [_label(classes, i) for i in batch] if classes else None
            images = sampler.sample([wishes.seed + i for i in batch], labels, wishes.truncation)
            for i, image in zip(batch, images):
                save_image(image, folder / names[i])
            bar.update(len(batch))
            if wrote is not None:
                wrote()


def _write_share(sampler, classes, wishes, folder, worker, generator):
    """Writes this worker's share of the single files; the chief waits for the others'."""
    about = {"generator": generator, "seed": wishes.seed, "truncation": wishes.truncation}
    names = _file_names(classes, wishes)
    shared = SharedFolder(folder, about, names, sampler.batch_size, (worker.index, worker.count))
    with tqdm(total=wishes.files, initial=shared.count(), unit="img", desc=f"{worker.count} workers writing",
              leave=False, disable=not worker.is_chief) as bar:

        def tell(count):
            bar.update(count - bar.n)

        def wrote():
            shared.add()
            if worker.is_chief:
                tell(shared.count())

        _write_files(sampler, classes, wishes, folder, shared.batches[shared.done :], wrote)
        if worker.is_chief:
            shared.wait(_WORKERS_MINUTES, tell)
            shared.close()


def _digest(generator):
    """SHA-256 of the weights: workers that found different checkpoints must not fill one folder."""
    return sha256_of_parts(weight.tobytes() for weight in generator.get_weights())
