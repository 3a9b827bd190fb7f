"""Labels that users give: ints or names of classes, one for all images or one each."""

import unicodedata

import numpy as np

from sagan_tf.errors import did_you_mean


def one_each(name, values, count):
    """Returns (N,) values, of one for all or N of them; raises ValueError for another number."""
    if values.shape not in ((), (1,), (count,)):
        raise ValueError(f"`{name}` must be one for all {count} images or one each. Received: shape {values.shape}.")
    return np.broadcast_to(values, (count,))


def as_labels(labels, class_names, count):
    """Converts labels to (N,) ints.

    Args:
        labels: int or str for all images, or N of them.
        class_names: K str, or None where they are not known.
        count: int, N.

    Raises:
        ValueError: There is another number of labels, one is neither an int nor a name, or a name is unknown.
    """
    labels = one_each("labels", np.asarray(labels, object), count)
    labels = np.array([_number(label, class_names or ()) if isinstance(label, str) else label for label in labels])
    if labels.size and labels.dtype.kind not in "iu":
        raise ValueError(f"`labels` must be ints or names of classes. Received: {labels}.")
    return labels


def find_class(name, names):
    """The label of a class by its name, or else by another Unicode form of it; None if there is none."""
    if name in names:
        return names.index(name)
    normal = [unicodedata.normalize("NFC", text) for text in (name, *names)]
    return normal.index(normal[0], 1) - 1 if normal[0] in normal[1:] else None


def _number(name, names):
    if (label := find_class(name, names)) is None:
        known = " `class_names` lists the classes." if names else " The generator does not name its classes."
        raise ValueError(f"There is no class `{name}`.{did_you_mean(name, names) or known}")
    return label
