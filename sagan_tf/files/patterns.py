"""Paths that TensorFlow, where it reads a checkpoint or a SavedModel, takes for patterns: it finds no file there."""

import os

_LETTERS = "*?[" + "\\" * (os.sep != "\\")


def pattern_letter(path):
    """The first letter of `*?[\\` in a path, as text; None if there is none."""
    return next((letter for letter in str(path) if letter in _LETTERS), None)
