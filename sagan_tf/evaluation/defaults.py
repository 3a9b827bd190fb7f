"""Defaults of an evaluation and the pixel ranges of feature networks; imports nothing, so that `--help` is fast."""

BATCH_SIZE = 64  # Images per replica.
KEPT_IMAGES = 50_000  # Images whose own features are kept, at most.

# Pixel ranges that a user's feature network may expect: name -> values of black and white.
PIXEL_RANGES = {"-1,1": (-1.0, 1.0), "0,1": (0.0, 1.0), "0,255": (0.0, 255.0)}
PIXEL_RANGE = "-1,1"
