"""Converts weights from and to SAGAN implementations in PyTorch."""
