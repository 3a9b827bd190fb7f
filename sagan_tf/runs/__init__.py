"""The run folder: its paths, and what is written to and read from it."""
