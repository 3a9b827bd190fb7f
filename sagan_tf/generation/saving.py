"""A run's generator as one file: the Keras model, and the record of the step that it is of."""

import json
import zipfile

from sagan_tf.files.atomic import atomic_write

_RECORD = "sagan_tf.json"  # beside Keras' own members of the archive
_MAX_BYTES = 1 << 16


def save_generator(generator, path, record):
    """Writes a generator, atomically, as a `.keras` file with a record, so that the two agree at any moment.

    Args:
        generator: keras.Model.
        path: Path, ending in `.keras`.
        record: dict of JSON values, with at least `step`.
    """
    with atomic_write(path) as temporary_path:
        generator.save(temporary_path)
        with zipfile.ZipFile(temporary_path, "a") as archive:
            archive.writestr(_RECORD, json.dumps(record))


def saved_record(path):
    """Reads the record of a file of `save_generator`; {} if there is none."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_RECORD) as file:
            record = json.loads(file.read(_MAX_BYTES))
    except (OSError, KeyError, ValueError, RecursionError, NotImplementedError, zipfile.BadZipFile):
        return {}
    return record if isinstance(record, dict) else {}
