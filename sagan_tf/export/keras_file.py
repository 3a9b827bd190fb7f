"""Export as a `.keras` file of stock layers, which Keras loads without this package."""

from pathlib import Path

import keras

from sagan_tf.files.atomic import atomic_write
from sagan_tf.generation.folding import FoldedGenerator, fold_generator


def export_keras(generator: keras.Model | FoldedGenerator, path: str | Path) -> Path:
    """Writes a generator as a `.keras` file: [latent, label] -> image; without classes the latent is the only input.

    The scores of an attention layer NAME are the output of the layer `NAME_scores`. On a CPU a label out of range,
    -1 too, raises an error.

    Args:
        generator: `FoldedGenerator`, or keras.Model [latent, label] or latent -> image, which is folded.
        path: Path of the file, ending in `.keras`. Its folder is created.

    Returns:
        pathlib.Path of the file.

    Raises:
        ValueError: The generator cannot be folded.
    """
    folded = fold_generator(generator)
    with atomic_write(path) as temporary_path:
        folded.model.save(temporary_path)
    return Path(path)
