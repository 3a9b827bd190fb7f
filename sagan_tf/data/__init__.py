"""Data sets, from a name or folder to training batches."""
