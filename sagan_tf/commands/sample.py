"""Pictures of a run's generator as files: what `python -m sagan_tf.sample` does."""


import numpy as np
from tqdm.auto import tqdm

from sagan_tf.commands.classes import choose_classes, class_names
from sagan_tf.errors import UserError
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.files.hashing import sha256_of_parts
from sagan_tf.files.shared_work import SharedFolder, split_batches
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler
from sagan_tf.runs.folder import Run
from sagan_tf.training.workers import read_worker
from sagan_tf.viewing import samplings
from sagan_tf.viewing.image_files import save_animation, save_image
from sagan_tf.viewing.image_grids import Table, draw_table, save_table

_STATIONS = 4  # Latents that an animation goes through before it comes back.
_FRAMES_A_LEG = 24  # From one station to the next.
_WORKERS_MINUTES = 30  # That the chief waits for another worker's next picture.


def sample_run(options):
    """Draws and writes pictures of a run's averaged generator.

    Where `TF_CONFIG` names several workers, they share the single files; the rest is drawn by the chief alone.

    Args:
        options: `SampleOptions`.

    Yields:
        pathlib.Path of each file or folder, once it is complete; nothing on workers but the chief.

    Raises:
        UserError: The run has no generator yet, its generator cannot do what is wished, `TF_CONFIG` cannot be used, or
            another worker's pictures did not come.
    """
    worker, run = read_worker(), Run.open(options.run)
    networks = restore_networks(run, options.step)
    classes = choose_classes(options.classes, class_names(run, networks.num_classes))
    if "classes" in options.interpolate and (classes is None or len(classes) < 2):
        reason = "the model has no classes" if classes is None else "one class has no way to another"
        raise UserError(f"--interpolate classes: {reason}.")
    sampler = Sampler(fold_generator(networks.generator))
    out = options.out or run.path / "pictures"
    if options.files:
        folder = out / "samples"
        if worker.count == 1:
            _write_files(sampler, classes, options, folder, split_batches(options.files, sampler.batch_size))
        else:
            _write_share(sampler, classes, options, folder, worker, _digest(networks.generator))
        if worker.is_chief:
            yield folder
    if worker.is_chief:
        yield from _draw(sampler, classes, options, out)


def _draw(sampler, classes, options, out):
    seeds = range(options.seed, options.seed + options.columns * (1 if classes else 8))
    if options.sweep:
        yield _table(samplings.truncation_sweep(sampler, classes, options.seed, options.sweep), out / "truncation.png")
    fractions = np.linspace(0, 1, options.frames)
    for way, draw in (("latents", samplings.latent_ways), ("classes", samplings.class_ways)):
        if way in options.interpolate:
            yield _table(draw(sampler, classes, options.seed, fractions), out / f"between_{way}.png")
    if options.animate:
        for way in options.interpolate or ("latents",):
            yield _animation(sampler, classes, options, way, out / f"between_{way}.{options.animate}")
    if not (options.files or options.sweep or options.interpolate or options.animate):
        yield _table(samplings.class_grid(sampler, classes, seeds, options.truncation), out / "grid.png")


def _table(table, path):
    save_table(table, path)
    return path


def _animation(sampler, classes, options, way, path):
    if way == "classes":
        seeds = range(options.seed, options.seed + options.columns)
        ways = [[(seed, label) for label in classes] for seed in seeds]
        titles = ("",)
    else:
        starts = range(options.seed, options.seed + _STATIONS * min(options.columns, 4), _STATIONS)
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


def _file_names(classes, options):
    labels = [_label(classes, i) for i in range(options.files)]
    names = [classes[label] if classes else None for label in labels]
    return [samplings.file_name(*both, options.seed + i) for i, both in enumerate(zip(labels, names))]


def _write_files(sampler, classes, options, folder, batches, wrote=None):
    """Writes some batches of the single files, and calls `wrote()` after each; memory holds one."""
    names = _file_names(classes, options)
    with tqdm(total=options.files, unit="img", desc="writing", leave=False, disable=wrote is not None) as bar:
        for batch in batches:
            labels = [_label(classes, i) for i in batch] if classes else None
            images = sampler.sample([options.seed + i for i in batch], labels, options.truncation)
            for i, image in zip(batch, images):
                save_image(image, folder / names[i])
            bar.update(len(batch))
            if wrote is not None:
                wrote()


def _write_share(sampler, classes, options, folder, worker, generator):
    """Writes this worker's share of the single files; the chief waits for the others'."""
    about = {"generator": generator, "seed": options.seed, "truncation": options.truncation}
    names = _file_names(classes, options)
    shared = SharedFolder(folder, about, names, sampler.batch_size, (worker.index, worker.count))
    with tqdm(total=options.files, initial=shared.count(), unit="img", desc=f"{worker.count} workers writing",
              leave=False, disable=not worker.is_chief) as bar:

        def tell(count):
            bar.update(count - bar.n)

        def wrote():
            shared.add()
            if worker.is_chief:
                tell(shared.count())

        _write_files(sampler, classes, options, folder, shared.batches[shared.done :], wrote)
        if worker.is_chief:
            shared.wait(_WORKERS_MINUTES, tell)
            shared.close()


def _digest(generator):
    """SHA-256 of the weights: workers that found different checkpoints must not fill one folder."""
    return sha256_of_parts(weight.tobytes() for weight in generator.get_weights())
