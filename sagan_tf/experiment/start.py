"""Starts a run from the weights of another one: reads them, and writes the checkpoint of step 0."""

import contextlib
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from sagan_tf.config import config_differences
from sagan_tf.errors import UserError
from sagan_tf.experiment.build import build_gan
from sagan_tf.experiment.checkpoints import make_manager, save_step
from sagan_tf.experiment.loading import known_class_names, known_class_names_beside, load_model, restore_networks
from sagan_tf.files.atomic import write_text
from sagan_tf.files.hub import is_hub_name
from sagan_tf.generation.sampler import count_classes
from sagan_tf.runs.folder import Run
from sagan_tf.training import SAGAN
from sagan_tf.training.transfer import Transfer, Weights, frozen_new_parts

# What the same weights compute depends on these, which shapes do not show.
_SHAPELESS = (
    "attention.pool_size", "attention.spectral_normalization", "generator.spectral_normalization",
    "generator.batch_normalization_epsilon", "discriminator.spectral_normalization", "discriminator.activate_skip",
)  # fmt: skip


def read_weights(source: str | Path) -> Weights:
    """Reads the weights of a run, to start another from them; a run may still be training, and files are not trusted.

    Args:
        source: Run folder, also of converted weights, or `hf://owner/name`: its newest checkpoint; without one, its
            averaged generator. Or its `generator.keras`: the averaged generator.

    Returns:
        `Weights`, for `SAGAN.load_weights_from`.

    Raises:
        UserError: There is no such run or file, it has no generator yet, or it cannot be read.
    """
    return _read_weights(*_locate(source), str(source))


def _locate(source):
    """The run of a source, and the path of the generator if that is what the source names."""
    path = Path(source)
    if not is_hub_name(source):
        if path.is_file() and path.suffix != ".keras":
            raise UserError(f"{path}: is not a run folder or a .keras file.")
        if not path.exists():
            raise UserError(f"{path}: there is no such run folder or .keras file.")
        if path.is_file():
            return Run(path.parent), path
    return Run.open(source), None


def _read_weights(run, path, source):
    if path is not None:
        networks = generator = load_model(run, path)
    else:
        restored = restore_networks(run, discriminator=bool(run.checkpoint_steps()))
        networks = generator = restored.generator
        if restored.discriminator is not None:
            networks = {
                "generator": restored.trained_generator,
                "ema_generator": generator,
                "discriminator": restored.discriminator,
            }
    num_classes = count_classes(generator)
    names = known_class_names_beside(path, num_classes) if path is not None else known_class_names(run, num_classes)
    return Weights.of(networks, source, names)


@dataclass(frozen=True)
class Start:
    """A compiled SAGAN with the weights of a source, and the table that says which.

    Args:
        gan: SAGAN.
        transfer: `Transfer`.
        source: str.
    """

    gan: SAGAN
    transfer: Transfer
    source: str


def prepare_start(config, source):
    """Builds the SAGAN of a new run with the weights of `training.start_from`; writes nothing.

    Args:
        config: `Config`.
        source: `data.sources.Source` of the training data.

    Returns:
        `Start`, or None without `training.start_from` or where the run has a checkpoint.

    Raises:
        UserError: The weights cannot be read or do not fit, or a part that was not taken would be frozen.
    """
    origin = config.training.start_from
    if origin is None or Run(config.run).checkpoint_steps():
        return None
    with _named_errors():
        run, path = _locate(origin)
        weights = _read_weights(run, path, origin)
        gan = build_gan(config, source)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of what is an error below
            transfer = gan.load_weights_from(weights, source.class_names, config.training.new_classes)
    for name in ("generator", "discriminator"):
        if drawn := frozen_new_parts(gan, transfer, name):
            raise UserError(
                f"{name}.frozen_blocks: {', '.join(drawn)} would stay as drawn, because {origin} has nothing that fits."
            )
    with contextlib.nullcontext() if path is None else contextlib.suppress(UserError):  # its folder may be of no run
        _warn_of_options(run, origin, config)
    return Start(gan, transfer, origin)


@contextlib.contextmanager
def _named_errors():
    try:
        yield
    except (UserError, ValueError) as error:
        raise UserError(f"training.start_from: {error}") from None


def _warn_of_options(run, origin, config):
    """Warns of options with which the weights taken compute something else than at the source."""
    differences = config_differences(run.config(), config) if run.config_path.is_file() else []
    differing = [line for line in differences if line.partition(":")[0] in _SHAPELESS]
    # The kernels were divided by sigma then.
    differing = [line for line in differing if not line.endswith("spectral_normalization: true -> false")]
    if differing:
        text = f"Warning: {origin}: its weights were trained with other options ({'; '.join(differing)})."
        print(text, file=sys.stderr)


def write_start(start, config, run):
    """Prints and writes what a run starts from, and its checkpoint of step 0, from which training resumes."""
    text = f"Started from {start.source}:\n{start.transfer}\n"
    print(text, end="")
    write_text(run.start_from_path, text)
    manager = make_manager(start.gan, run, config.output.checkpoints_to_keep)
    save_step(start.gan, manager, run.generator_path, 0)
