"""Exporting a run's averaged generator."""

import dataclasses
import os
import tempfile

from sagan_tf.commands.classes import choose_classes
from sagan_tf.commands.subjects import open_subject
from sagan_tf.errors import UserError
from sagan_tf.experiment.loading import class_names, load_model
from sagan_tf.export.formats import FORMATS
from sagan_tf.export.model_card import make_model_card, write_model_card
from sagan_tf.export.model_versions import VersionExistsError, check_is_new
from sagan_tf.files.atomic import read_unreplaced
from sagan_tf.files.patterns import pattern_letter
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler
from sagan_tf.runs.provenance import describe_training
from sagan_tf.viewing.image_grids import save_table
from sagan_tf.viewing.sample_tables import class_grid

_COLUMNS = 8  # of the grid of samples
_OF_FORMATS = {"version": "saved_model", "node_modules": "web"}


def export_run(options):
    """Writes a run's averaged generator in all formats, and the model card.

    Args:
        options: `ExportOptions`.

    Yields:
        (str, pathlib.Path): format or "model card", and a file or folder, once it is complete.

    Raises:
        UserError: The run has no generator, the folder cannot be written, the version exists, or an option is of a
            format that is not written.
    """
    for name, needed in _OF_FORMATS.items():
        if getattr(options, name) is not None and needed not in options.formats:
            raise UserError(f"--{name}: is for {needed}; add it to --formats, or leave the option out.")
    letter = pattern_letter(os.path.abspath(options.out))
    if letter and "saved_model" in options.formats:
        raise UserError(
            f"--out: TensorFlow could not load a SavedModel from {options.out}, since it takes `{letter}` in the path "
            "for a pattern. Choose another folder."
        )
    try:
        check_is_new(options.out / "saved_model" / options.name, options.version)
    except VersionExistsError as error:
        raise UserError(f"{error} Choose another with --version, or leave it out.") from None
    run = open_subject(options.run, options.pretrained)
    options = dataclasses.replace(options, run=run.name)
    run.check_generator()
    # Training may replace the file between the two.
    training, model = read_unreplaced(run.generator_path, lambda: (describe_training(run), load_model(run)))
    folded = fold_generator(model)
    _make_folder(options.out)
    artifacts = []
    # SavedModel last: servers load it at once, and another format may fail, such as one whose package is missing.
    for name in sorted(dict.fromkeys(options.formats), key=lambda name: name == "saved_model"):
        paths = FORMATS[name](folded, options.out, options, training)
        for path in paths:
            yield name, path
        artifacts += paths
    samples = save_samples(folded, class_names(run, folded.num_classes), options.out / "samples.png")
    yield "samples", samples
    card = make_model_card(options.name, folded, options.out, artifacts, training, samples)
    yield "model card", write_model_card(card, options.out)[-1]


def save_samples(folded, names, path):
    """Draws the first classes, or 16 seeds without classes."""
    classes = choose_classes(None, names)
    seeds = range(_COLUMNS if classes else 2 * _COLUMNS)
    save_table(class_grid(Sampler(folded, batch_size=_COLUMNS, show_progress=False), classes, seeds), path)
    return path


def _make_folder(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # os.access is true for root on read-only disks, so writing is tried.
        tempfile.TemporaryFile(dir=folder).close()
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--out: there is a file in place of the folder {folder}. Choose another.") from None
    except OSError as error:
        raise UserError(f"--out: cannot write to {folder}: {error.strerror}. Choose another folder.") from None
