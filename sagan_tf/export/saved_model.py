"""Export as a SavedModel, which TensorFlow Serving and TensorFlow from 2.15 load without this package."""

from pathlib import Path

import keras

from sagan_tf.export.model_versions import new_version
from sagan_tf.export.signatures import make_signatures
from sagan_tf.export.warm_up import write_warm_up
from sagan_tf.generation.folding import FoldedGenerator, fold_generator


def export_saved_model(
    generator: keras.Model | FoldedGenerator, directory: str | Path, *, version: int | None = None, warm_up: bool = True
) -> Path:
    """Writes a generator as a new version of a served model, with the signatures of `make_signatures`.

    The layout is that of TensorFlow Serving, `directory/VERSION/saved_model.pb`; the model has the name of `directory`.
    The version appears complete, so a server may poll `directory` meanwhile.

    Args:
        generator: `FoldedGenerator`, or keras.Model [latent, label] or latent -> image, which is folded.
        directory: Folder of the versions. It is created.
        version: int >= 1; None: one above the highest version.
        warm_up: bool. Write requests that TensorFlow Serving runs before it serves the version. Without
            `tensorflow-serving-api` (the extra `serving`) they are omitted, with a line on stdout.

    Returns:
        pathlib.Path of the new version.

    Raises:
        FileExistsError: The version exists.
        ValueError: The generator cannot be folded, its images are neither gray nor RGB, or `version` is not an integer
            >= 1.
    """
    folded = fold_generator(generator)
    if folded.image_shape[-1] not in (1, 3):
        raise ValueError(f"Images must have 1 or 3 channels. Received: images of shape {folded.image_shape}.")
    signatures = make_signatures(folded)
    with new_version(directory, version) as new:
        # Without `track`, which would write every variable twice (Keras 3.15).
        archive = keras.export.ExportArchive()
        for signature in signatures:
            archive.add_endpoint(signature.name, signature.function, input_signature=list(signature.inputs))
        archive.write_out(str(new.path), verbose=False)
        if warm_up:
            write_warm_up(new.path, new.path.parent.resolve().name, signatures)
    return new.final_path
