"""The run folder: its paths, and what is written to and read from it."""

from sagan_tf.runs.folder import Run as Run
