"""Weights of other SAGANs for our networks: TF-GAN's and PyTorch's; arrays in, networks out."""
