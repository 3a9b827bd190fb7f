"""The truncation of latents that has no effect; imports nothing, so that `--help` is fast."""

NO_TRUNCATION = 6.0  # In effect the whole normal distribution, which the generator was trained on.
