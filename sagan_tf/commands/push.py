"""Uploads a run's averaged generator to the Hugging Face Hub: what `sagan push` does once its options are parsed."""

import shutil
import tempfile
import zipfile
from pathlib import Path

from sagan_tf.commands.export import save_samples
from sagan_tf.commands.subjects import open_subject
from sagan_tf.config import save_config
from sagan_tf.errors import UserError
from sagan_tf.experiment.loading import class_names, load_model
from sagan_tf.export.hub_card import hub_card, hub_loading_code
from sagan_tf.export.keras_file import export_keras
from sagan_tf.export.model_card import make_model_card, write_model_card
from sagan_tf.export.tflite import export_tflite
from sagan_tf.files.atomic import read_unreplaced, write_text
from sagan_tf.files.hub import SCHEME, check_upload, repository_id, upload
from sagan_tf.generation.folding import fold_generator
from sagan_tf.runs.folder import Run
from sagan_tf.runs.portable import dataset_name, portable_config
from sagan_tf.runs.provenance import describe_training

_VARIANTS = ("float16", "dynamic_int8")  # of TFLite


def push_run(options):
    """Uploads a run's averaged generator with its model card, as one commit.

    Args:
        options: `PushOptions`.

    Returns:
        str, the address of the commit.

    Raises:
        UserError: The run has no generator, or `files.hub.upload` cannot upload it.
    """
    check_upload(options.name)
    run = open_subject(options.run)
    run.check_generator()
    with tempfile.TemporaryDirectory() as folder:
        write_repository(run, Path(folder), options)
        return upload(Path(folder), options.name, options.private)


def write_repository(run, folder, options):
    """Writes what a repository holds: a run folder without its history, which Keras loads as well, and the card."""
    copy = Run(folder)

    def read():
        shutil.copyfile(run.generator_path, copy.generator_path)
        return describe_training(run), load_model(run)

    training, model = read_unreplaced(run.generator_path, read)  # training may replace the file
    folded = fold_generator(model)
    save_config(portable_config(run.config(), f"runs/{_short_name(options)}"), copy.config_path)
    if names := run.class_names():
        copy.save_class_names(names)
    if fingerprint := run.fingerprint():
        copy.save_fingerprint(fingerprint | {"name": dataset_name(fingerprint["name"])})
    if options.checkpoint:
        _copy_checkpoint(run, copy)
    _write_keras_folder(folded, folder)
    tflite = list(export_tflite(folded, folder / "tflite", variants=_VARIANTS).values())
    samples = save_samples(folded, class_names(run, folded.num_classes), folder / "samples.png")
    files = [path for path in folder.rglob("*") if path.is_file() and path != samples]
    card = make_model_card(_short_name(options), folded, folder, files, training, samples)
    address = f"{SCHEME}{repository_id(options.name)}"
    card["loading"] = hub_loading_code(folded, address, tflite[0].relative_to(folder).as_posix())
    write_model_card(card, folder)
    write_text(folder / "README.md", hub_card(card, _copy_images(run, copy), options.license))
    (folder / "model_card.md").unlink()  # the same without the YAML


def _short_name(options):
    return repository_id(options.name).partition("/")[2]


def _copy_checkpoint(run, copy):
    if not run.checkpoint_steps():
        raise UserError(f"--checkpoint: {run.source} has no checkpoint. Leave it out.")
    steps, own_step = run.checkpoint_steps(), copy.generator_step()
    step = own_step if own_step in steps else steps[-1]  # training may have written a newer one meanwhile
    copy.checkpoints_path.mkdir()
    for path in run.checkpoints_path.glob(f"ckpt-{step}.*"):
        shutil.copyfile(path, copy.checkpoints_path / path.name)


def _write_keras_folder(folded, folder):
    """Writes the stock Keras model as the files that `keras.saving.load_model("hf://owner/name")` reads."""
    path = export_keras(folded, folder / "folded.keras")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    path.unlink()


def _copy_images(run, copy):
    """Copies the newest attention image, if there is one: list of (title, path in the repository)."""
    paths = sorted(run.attention_path.glob("step_*.png"))
    if not paths:
        return []
    shutil.copyfile(paths[-1], copy.path / "attention.png")
    return [("Attention during training", "attention.png")]
