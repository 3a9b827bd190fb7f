"""A run from its config: data, networks, training, checkpoints, callbacks."""
