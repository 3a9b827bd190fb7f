"""Draws samples of a run's generator: what `sagan sample` does once its options are parsed."""

import numpy as np

from sagan_tf.commands.classes import choose_classes
from sagan_tf.commands.options import SampleOptions
from sagan_tf.commands.subjects import open_subject
from sagan_tf.errors import UserError
from sagan_tf.experiment.loading import class_names, restore_networks
from sagan_tf.files.hashing import sha256_of_parts
from sagan_tf.files.shared_work import SharedFolder
from sagan_tf.generation.directions import name_directions, principal_directions
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler
from sagan_tf.training.workers import read_worker
from sagan_tf.utils.progress import progress_bar
from sagan_tf.viewing import sample_tables
from sagan_tf.viewing.image_files import check_animation, save_animation, save_image
from sagan_tf.viewing.image_grids import Table, draw_table, save_table

_SEEDS_PER_LOOP = 4  # of an animation between latents
_LOOPS_PER_ROW = 4  # at most, of such an animation
_FRAMES_PER_STEP = 24  # of an animation, from one seed or class to the next
_WORKERS_MINUTES = 30  # the longest time that the chief waits for another worker's next file


def sample_run(options):
    """Draws samples of a run's averaged generator.

    Workers of `TF_CONFIG` share the single files; the chief draws all else.

    Args:
        options: `SampleOptions`.

    Yields:
        pathlib.Path of each file or folder, once it is complete; nothing on workers other than the chief.

    Raises:
        UserError: The run has no generator yet, the options do not fit it, `TF_CONFIG` is not valid, or another
            worker's files did not come.
    """
    check_animation(options.animate)
    _check_strips(options)
    worker, run = read_worker(), open_subject(options.run, options.pretrained)
    networks = restore_networks(run, options.step)
    classes = choose_classes(options.classes, class_names(run, networks.num_classes))
    if "classes" in options.interpolate and (classes is None or len(classes) < 2):
        reason = "the model has no classes" if classes is None else "it needs two classes or more"
        raise UserError(f"--interpolate classes: {reason}.")
    folded = fold_generator(networks.generator)
    sampler, directions = Sampler(folded), _find_directions(folded, options.directions)
    out = options.out or run.output_path / "pictures"
    if options.files:
        folder = out / "samples"
        _check_folder(folder, classes, options)
        _write_files(sampler, classes, options, folder, worker, networks.generator)
        if worker.is_chief:
            yield folder
    if worker.is_chief:
        yield from _draw(sampler, classes, options, out)
        if options.directions:
            directions = dict(zip(*name_directions(folded, directions)))
            chosen = classes if options.classes or not classes else dict([next(iter(classes.items()))])
            yield from _draw_directions(sampler, chosen, options, directions, out)


def _check_strips(options):
    """Refuses options of strips or columns that are not drawn, and a truncation beside those of a sweep alone."""
    strips = {"distance": ("directions",), "frames": ("directions", "interpolate")}
    for name, users in strips.items():
        if getattr(options, name) != getattr(SampleOptions, name) and not any(getattr(options, user) for user in users):
            raise UserError(f"--{name}: needs --{' or --'.join(users)}; add it, or leave --{name} out.")
    tables = options.files or options.sweep or options.interpolate or options.directions
    if options.columns != SampleOptions.columns and tables and not options.animate:
        raise UserError("--columns: is for the grid of samples and for animations; leave it out.")
    others = options.files or options.interpolate or options.animate or options.directions
    if options.sweep and options.truncation != SampleOptions.truncation and not others:
        raise UserError("--truncation: has no effect on --sweep, which lists its own; leave one of them out.")


def _check_folder(folder, classes, options):
    """Refuses to mix the single files with others: a folder of images is what `evaluate` takes."""
    others = {path.name for path in folder.glob("*.png")}.difference(_labels_and_names(classes, options)[1])
    if others:
        raise UserError(
            f"--files: {folder} has images of another command, such as {min(others)}. Remove them, or choose another "
            "--out."
        )


def _find_directions(folded, count):
    directions = principal_directions(folded, count) if count else ()
    if len(directions) < (count or 0):
        raise UserError(f"--directions: the generator has {len(directions)} directions, not {count}.")
    return directions


def _draw(sampler, classes, options, out):
    seed, fractions = options.seed, np.linspace(0, 1, options.frames)
    if options.sweep:
        yield _save(sample_tables.truncation_sweep(sampler, classes, seed, options.sweep), out / "truncation.png")
    if "latents" in options.interpolate:
        table = sample_tables.latent_interpolations(sampler, classes, seed, fractions, options.truncation)
        yield _save(table, out / "between_latents.png")
    if "classes" in options.interpolate:
        table = sample_tables.class_interpolations(sampler, classes, seed, fractions, options.truncation)
        yield _save(table, out / "between_classes.png")
    if options.animate:
        for kind in options.interpolate or (() if options.directions else ("latents",)):
            path = out / f"between_{kind}.{options.animate}"
            save_animation(_animation_frames(sampler, classes, options, kind), path)
            yield path
    if not (options.files or options.sweep or options.interpolate or options.animate or options.directions):
        seeds = range(seed, seed + options.columns * (1 if classes else 8))
        yield _save(sample_tables.class_grid(sampler, classes, seeds, options.truncation), out / "grid.png")


def _draw_directions(sampler, classes, options, directions, out):
    reach, seed, truncation = options.distance, options.seed, options.truncation
    distances = np.linspace(-reach, reach, options.frames)
    table = sample_tables.direction_strips(sampler, classes, seed, directions, distances, truncation)
    yield _save(table, out / "directions.png")
    if options.animate:
        distances = -reach * np.cos(np.pi * np.arange(_FRAMES_PER_STEP + 1) / _FRAMES_PER_STEP)
        seeds = range(seed, seed + min(options.columns, _LOOPS_PER_ROW))
        tables = [
            sample_tables.direction_strips(sampler, classes, seed, directions, distances, truncation)
            for seed in progress_bar(seeds, unit="seed", desc="moving", leave=False)
        ]
        images = np.stack([table.images for table in tables], axis=2)  # (rows, frames, seeds, H, W, C)
        frames = [draw_table(Table(images[:, i], tables[0].row_titles)) for i in range(len(distances))]
        path = out / f"directions.{options.animate}"
        save_animation(frames + frames[-2:0:-1], path)
        yield path


def _save(table, path):
    save_table(table, path)
    return path


def _animation_frames(sampler, classes, options, kind):
    """Frames of loops through all classes, one per seed; or of loops through seeds, one row per class."""
    if kind == "classes":
        titles = ("",)
        loops = [[(options.seed + i, label) for label in classes] for i in range(options.columns)]
    else:
        titles = tuple(classes.values()) if classes else ("",)
        first_seeds = [options.seed + _SEEDS_PER_LOOP * i for i in range(min(options.columns, _LOOPS_PER_ROW))]
        loops = [
            [(first + i, label) for i in range(_SEEDS_PER_LOOP)] for label in classes or [None] for first in first_seeds
        ]
    images = [
        sample_tables.interpolation_loop(sampler, loop, _FRAMES_PER_STEP, options.truncation)
        for loop in progress_bar(loops, unit="loop", desc="interpolating", leave=False)
    ]
    shape = (len(titles), len(loops) // len(titles), *sampler.image_shape)
    return [draw_table(Table(np.reshape(frame, shape), titles)) for frame in np.stack(images, axis=1)]


def _write_files(sampler, classes, options, folder, worker, generator):
    """Writes this worker's share of the single files, the classes in turn; the chief waits for the other workers."""
    # Files of different checkpoints, of another worker or an earlier command, must not share a folder.
    digest = sha256_of_parts(weight.tobytes() for weight in generator.get_weights())
    about = {"generator": digest, "seed": options.seed, "truncation": options.truncation}
    labels, names = _labels_and_names(classes, options)
    shared = SharedFolder(folder, about, names, sampler.batch_size, (worker.index, worker.count))
    if worker.count == 1 and not shared.done:
        for name in names:
            (folder / name).unlink(missing_ok=True)
    title = "writing" if worker.count == 1 else f"{worker.count} workers writing"
    with progress_bar(
        total=options.files, initial=shared.count(), unit="img", desc=title, leave=False, disable=not worker.is_chief
    ) as bar:

        def show(count):
            bar.update(count - bar.n)

        for batch in shared.batches[shared.done :]:
            seeds = [options.seed + i for i in batch]
            images = sampler.sample(seeds, [labels[i] for i in batch] if classes else None, options.truncation)
            for i, image in zip(batch, images):
                save_image(image, folder / names[i])
            shared.add()
            if worker.is_chief:
                show(shared.count())
        if worker.count > 1 and worker.is_chief:
            shared.wait(_WORKERS_MINUTES, show)
        if worker.is_chief:
            shared.close()


def _labels_and_names(classes, options):
    """Label and file name of each single file."""
    labels = [None] * options.files if classes is None else np.resize(list(classes), options.files).tolist()
    names = [
        sample_tables.file_name(label, classes and classes[label], options.seed + i) for i, label in enumerate(labels)
    ]
    return labels, names
