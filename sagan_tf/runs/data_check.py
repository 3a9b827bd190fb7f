"""Compares data with those that a run was trained on, since another order of classes would move the labels."""

import sys

from sagan_tf.data.fingerprint import count_in_words, fingerprint_differences
from sagan_tf.errors import UserError


def check_data(run, fingerprint, allow_change=None, classes_only=False):
    """Checks that data are those of a run.

    Args:
        run: `Run`; nothing in it changes.
        fingerprint: dict of `portable_fingerprint` of the data.
        allow_change: bool. Print a warning in place of the error; None where no option of the command allows it.
        classes_only: bool. Compare only the classes, as for another split.

    Raises:
        UserError: They differ, and `allow_change` is not true.
    """
    old = _read_fingerprint(run)
    if old is None:
        text = f"Warning: {run.source} has no record of its data; whether they have changed is unknown."
        print(text, file=sys.stderr)
        return
    differences = fingerprint_differences(old, fingerprint, classes_only)
    if differences is None:
        return
    text = f"{run.source}: the data, {fingerprint['name']}, are not those of the run ({differences})."
    if not allow_change:
        option = " or continue with --allow_data_change" if allow_change is False else ""
        raise UserError(f"{text} Restore them{option}.")
    print(f"Warning: {text}", file=sys.stderr)


def check_number_of_classes(run, fingerprint):
    """Raises UserError if data have more or fewer classes than the networks of a run."""
    old = _read_fingerprint(run)
    if old is not None and len(old["class_names"] or ()) != len(fingerprint["class_names"] or ()):
        raise UserError(
            f"{run.source}: the networks have {count_in_words(old['class_names'])}, and the data, "
            f"{fingerprint['name']}, {count_in_words(fingerprint['class_names'])}. Choose another folder with --run."
        )


def has_classes_of(run, class_names):
    """Whether classes (None: no classes) are those of a run, in this order; true if those of the run are unknown."""
    old = _read_fingerprint(run)
    known = run.known_class_names() if old is None else old["class_names"]
    is_unknown = old is None and known is None
    return is_unknown or known == (None if class_names is None else list(class_names))


def _read_fingerprint(run):
    """The fingerprint; a run folder without it may know its class names; None if they are unknown too."""
    fingerprint = run.fingerprint()
    if fingerprint is None and run.class_names() is not None:
        return {"class_names": run.class_names()}
    return fingerprint
