"""Trained generators by path, for Python users: images and attention maps of seeds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from sagan_tf.config import Config
from sagan_tf.errors import UserError
from sagan_tf.experiment.loading import class_names, class_names_beside, load_model, restore_networks
from sagan_tf.files.hub import is_hub_name
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.labels import as_labels, one_each
from sagan_tf.generation.sampler import Sampler, count_classes
from sagan_tf.generation.truncation import NO_TRUNCATION
from sagan_tf.runs.folder import Run
from sagan_tf.runs.pretrained import pretrained_folder
from sagan_tf.viewing.attention import AttentionMaps, AttentionProbe


class TrainedGenerator:
    """A generator that makes the images of seeds.

    Symbols: N images, H, W height and width of an image in px, C image channels, K classes.

    Args:
        model: keras.Model of `build_generator`.
        class_names: K str; None without classes.

    Attributes:
        model: keras.Model, [latent, label] or the latent alone -> image (B, H, W, C) in [-1, 1]. `sample` keeps the
            weights with which it was loaded.
        class_names: tuple of K str, numbers where the names are not known; None without classes.
        num_classes: int, K; None without classes.
        latent_dim: int.
        image_shape: (H, W, C).
    """

    def __init__(self, model: keras.Model, class_names: Sequence[str] | None = None):
        self.model = model
        self.class_names: tuple[str, ...] | None = None if class_names is None else tuple(class_names)
        self._sampler = Sampler(fold_generator(model))
        self.num_classes: int | None = self._sampler.num_classes
        self.latent_dim: int = self._sampler.latent_dim
        self.image_shape: tuple[int, int, int] = self._sampler.image_shape

    def sample(
        self,
        seeds: int | Sequence[int] | np.ndarray,
        labels: int | str | Sequence[int | str] | np.ndarray | None = None,
        truncation: float | Sequence[float] | np.ndarray = NO_TRUNCATION,
    ) -> NDArray[np.uint8]:
        """Generates the images of seeds, those of the command `sagan sample`.

        Args:
            seeds: N ints of 64 bits; or an int, for one image.
            labels: Class of each image, by number or name; or one class for all. None without classes.
            truncation: Largest absolute entry of a latent, above 0; one for all, or N of them.

        Returns:
            (N, H, W, C) uint8.

        Raises:
            ValueError: A label is unknown, there are labels without classes or the reverse, or an argument is out of
                its range.
        """
        return self._sampler.sample(*self._checked(seeds, labels, truncation))

    def attention(
        self,
        seeds: int | Sequence[int] | np.ndarray,
        labels: int | str | Sequence[int | str] | np.ndarray | None = None,
        truncation: float | Sequence[float] | np.ndarray = NO_TRUNCATION,
    ) -> dict[str, AttentionMaps]:
        """Computes the attention maps of the images that `sample` makes of the same arguments.

        Args:
            seeds: As in `sample`, N >= 1.
            labels: As in `sample`.
            truncation: As in `sample`.

        Returns:
            dict, name of an attention layer -> `AttentionMaps`, whose `map_of(image, (row, column))` is the map of one
            query. Empty without attention.

        Raises:
            ValueError: As `sample`.
        """
        inputs = Sampler(self.model).inputs(*self._checked(seeds, labels, truncation))
        if not len(inputs[0]):
            raise ValueError("`seeds` must have one seed or more.")
        return self._probe.attention_maps(inputs)[1]

    @functools.cached_property
    def _probe(self):
        # For all calls: each probe traces the network anew, which takes longer than it computes.
        return AttentionProbe(self.model)

    def _checked(self, seeds, labels, truncation):
        """(N,) ints of seeds and of labels, or None, and (N,) truncations."""
        seeds, truncation = np.atleast_1d(seeds), np.asarray(truncation, np.float32)
        seeds = seeds if seeds.size else seeds.astype(np.int64)
        if seeds.ndim != 1 or seeds.dtype.kind not in "iu" or np.any(seeds > np.iinfo(np.int64).max):
            raise ValueError(f"`seeds` must be an int or (N,) ints. Received: {seeds.dtype.name} {seeds.shape}.")
        if not (np.isfinite(truncation).all() and (truncation > 0).all()):
            raise ValueError(f"`truncation` must be above 0. Received: {truncation}.")
        truncation = one_each("truncation", truncation, len(seeds))
        if labels is None or self.class_names is None:
            return seeds, labels, truncation
        return seeds, as_labels(labels, self.class_names, len(seeds)), truncation


class TrainedRun(TrainedGenerator):
    """The averaged generator of a run folder.

    Args:
        path: Run folder, or `hf://owner/name`, optionally with a revision as in `hf://owner/name@v1`.
        step: Step of a checkpoint. None for the newest.
        best: Take the best generator of the evaluations during training.

    Attributes:
        path: pathlib.Path of the folder; of a repository, that of its copy in the cache.
        config: `Config` of the run.
        step: int, the step of the generator; None if its file does not record it.
    """

    def __init__(self, path: str | Path, step: int | None = None, best: bool = False):
        if str(path).endswith(".keras") and Path(path).is_file():
            raise UserError(f"{path}: it is a file, not a run folder: `load_generator` loads it.")
        run = Run.open(path)
        networks = restore_networks(run, step, best=best)
        super().__init__(networks.generator, class_names(run, networks.num_classes))
        self.path: Path = run.path
        self.config: Config = run.config()
        self.step: int | None = networks.step


def load_run(path: str | Path, step: int | None = None, best: bool = False) -> TrainedRun:
    """Loads the averaged generator of a run, which may still be training.

    It computes with the process's setting of TF32, not with the run's (docs/gpu.md).

    Args:
        path: Run folder, or a repository of the Hugging Face Hub, such as `hf://owner/name` or `hf://owner/name@v1`,
            whose files are not trusted.
        step: Step of a checkpoint. None for the newest.
        best: Take the best generator of the evaluations during training.

    Returns:
        `TrainedRun`, with `sample`, `attention`, `class_names` and `config`.

    Raises:
        UserError: It is not a run folder, has no generator or checkpoint yet, a file cannot be read, or the repository
            cannot be downloaded.
    """
    return TrainedRun(path, step, best)


def pretrained(name: str) -> TrainedRun:
    """Loads the averaged generator of a run whose weights come with the package.

    Args:
        name: `twins`, of the quick start, or `cifar10`. A folder of that name in `sagan_tf/weights` has the weights and
            their model card: data, steps, figures and how they were made.

    Returns:
        `TrainedRun`.

    Raises:
        UserError: There are no weights of that name.
    """
    return TrainedRun(pretrained_folder(name))


def load_generator(path: str | Path) -> TrainedGenerator:
    """Loads a generator from a `.keras` file of a run, such as `generator.keras`; the file is not trusted.

    The class names are those of the run folder that the file is in; elsewhere they are numbers. It computes with the
    process's setting of TF32 (docs/gpu.md).

    Args:
        path: File that training wrote, or a repository as for `load_run`.

    Returns:
        `TrainedGenerator`, with `sample`, `attention` and `class_names`.

    Raises:
        UserError: The file cannot be read, or holds no generator of `build_generator`.
    """
    if is_hub_name(path):
        return TrainedRun(path)
    if not Path(path).is_file():
        hint = " It is a folder: `load_run` loads a run." if Path(path).is_dir() else ""
        raise UserError(f"{path}: there is no such file.{hint}")
    path = Path(path)
    model = load_model(Run(path.parent), path)
    return TrainedGenerator(model, class_names_beside(path, count_classes(model)))
