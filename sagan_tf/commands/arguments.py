"""Kinds of arguments that several commands take; each refuses what it is not, in one line."""

import math

from sagan_tf.errors import UserError


def whole_number(least):
    """Makes an argument type.

    Args:
        least: int, the smallest number taken.

    Returns:
        Function of a str that gives an int.
    """

    def number(text):
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value < 2**62:
            raise UserError(f"command line: `{text}` is no whole number from {least}. --help lists the options.")
        return value

    return number


def positive(text):
    """Reads a number above 0.

    Args:
        text: str.

    Returns:
        float.

    Raises:
        UserError: It is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UserError(f"command line: `{text}` is no number above 0. --help lists the options.")
    return value


def positives(text):
    """Reads numbers above 0 with commas between them, a tuple of floats."""
    return tuple(positive(word) for word in text.split(","))


def words(option):
    """Makes an argument type of words with commas between them.

    Args:
        option: str, its name, for the refusal.

    Returns:
        Function of a str that gives a tuple of str.
    """

    def read(text):
        found = tuple(word.strip() for word in text.split(",") if word.strip())
        if not found:
            raise UserError(f"{option}: is empty; name something, or leave it out.")
        return found

    return read
