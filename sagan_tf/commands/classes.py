"""The classes that a user chose."""

from sagan_tf.errors import UserError, did_you_mean, list_some
from sagan_tf.generation.labels import find_class

DEFAULT_CLASSES = 10


def choose_classes(chosen, names):
    """Finds the classes that a user chose.

    Args:
        chosen: Names or numbers, a tuple of str; ("all",); None: the first ten.
        names: Names of all classes in the order of their labels; None without classes.

    Returns:
        dict, label -> name; None without classes.

    Raises:
        UserError: There is no such class, or there are no classes to choose from.
    """
    if names is None:
        if chosen is not None:
            raise UserError("--classes: the model was trained without classes; leave --classes out.")
        return None
    if chosen is None:
        return dict(list(enumerate(names))[:DEFAULT_CLASSES])
    if chosen == ("all",):
        return dict(enumerate(names))
    labels = [_find_class(text, names) for text in chosen]
    return {label: names[label] for label in labels}


def _find_class(text, names):
    if (label := find_class(text, names)) is not None:
        return label
    try:
        label = int(text)
    except ValueError:
        hint = did_you_mean(text, names) or f" The classes are {list_some(names, 10)}."
        raise UserError(f"--classes: the model has no class `{text}`.{hint}") from None
    if not 0 <= label < len(names):
        raise UserError(f"--classes: {text} is out of range; the model has the classes 0 to {len(names) - 1}.")
    return label
