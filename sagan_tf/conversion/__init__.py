"""Converts weights of other SAGAN implementations, TF-GAN's and PyTorch's."""
