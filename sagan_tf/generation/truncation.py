"""Truncation of latents: the value without effect, and its text; imports nothing, so that `--help` is fast."""

NO_TRUNCATION = 6.0  # In effect the whole normal distribution, which the generator was trained on.


def truncation_text(truncation):
    """A truncation, or `none` where it has no effect."""
    return "none" if truncation >= NO_TRUNCATION else f"{truncation:g}"
