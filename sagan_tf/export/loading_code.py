"""The lines of Python that load an exported generator and make images of it, for its model card."""

from sagan_tf.generation.truncation import NO_TRUNCATION

_COUNT = 8  # images


def loading_code(folded, folder, files):
    """Returns name of a format -> lines of Python, to be run in the folder of the export.

    Args:
        folded: `FoldedGenerator`.
        folder: pathlib.Path of the export.
        files: pathlib.Paths of the exported files; of several versions the highest is loaded.
    """
    code = {}
    for path in sorted(files, key=lambda path: int(path.parent.name) if path.parent.name.isdecimal() else 0):
        if path.name == "saved_model.pb":
            code["saved_model"] = _saved_model(path.parent.relative_to(folder).as_posix(), folded)
        elif path.suffix == ".keras":
            code["keras"] = keras_code(path.relative_to(folder).as_posix(), folded)
    return {name: code[name] for name in ("saved_model", "keras") if name in code}


def _saved_model(place, folded):
    label = "" if folded.num_classes is None else f', "label": tf.zeros({_COUNT}, tf.int32)'
    truncation = f"tf.fill([{_COUNT}], {NO_TRUNCATION})"
    return [
        "import tensorflow as tf",
        f"model = tf.saved_model.load({place!r})",
        f'inputs = {{"seed": tf.range({_COUNT}, dtype=tf.int64), "truncation": {truncation}{label}}}',
        'pngs = model.signatures["sample"](**inputs)["image_bytes"]',
        'tf.io.write_file("seed_0.png", pngs[0])',
    ]


def keras_code(place, folded):
    """Lists the lines of Python that load a Keras file; `place` is its path as a str, `folded` a `FoldedGenerator`."""
    inputs = "latents" if folded.num_classes is None else f'[latents, np.zeros({_COUNT}, "int32")]'
    shape = ", ".join(map(str, (_COUNT, *folded.image_shape)))
    return [
        "import keras",
        "import numpy as np",
        f"model = keras.models.load_model({place!r})",
        f'latents = np.random.default_rng(0).standard_normal(({_COUNT}, {folded.latent_dim})).astype("float32")',
        f"images = model.predict({inputs})  # ({shape}) in [-1, 1]",
    ]
