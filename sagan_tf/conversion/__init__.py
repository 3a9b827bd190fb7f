"""Converts weights of other SAGAN implementations, in PyTorch."""
