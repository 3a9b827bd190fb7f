"""Networks in PyTorch with the module names of heykeetae's Self-Attention-GAN for 64 px; our own implementation."""

import torch
from torch import nn


class SpectralNorm(nn.Module):
    """Normalizes a layer's weight as a matrix of its first axis, by one power iteration in every call."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        weight = module.weight.detach()
        del module.weight
        module.weight_bar = nn.Parameter(weight)
        module.weight_u = nn.Parameter(torch.randn(len(weight)), requires_grad=False)
        module.weight_v = nn.Parameter(torch.randn(weight[0].numel()), requires_grad=False)

    def forward(self, x):
        matrix = self.module.weight_bar.flatten(1)
        v = nn.functional.normalize(matrix.T @ self.module.weight_u, dim=0, eps=1e-12)
        u = nn.functional.normalize(matrix @ v, dim=0, eps=1e-12)
        self.module.weight = self.module.weight_bar / (u @ matrix @ v)
        return self.module(x)


class SelfAttn(nn.Module):
    def __init__(self, channels):
        super().__init__()
        for name, outputs in (("query_conv", channels // 8), ("key_conv", channels // 8), ("value_conv", channels)):
            setattr(self, name, nn.Conv2d(channels, outputs, 1))
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        query, key, value = (layer(x).flatten(2) for layer in (self.query_conv, self.key_conv, self.value_conv))
        scores = torch.einsum("bcn,bcm->bnm", query, key).softmax(-1)
        mixed = torch.einsum("bnm,bcm->bcn", scores, value).unflatten(2, x.shape[2:])
        return self.gamma * mixed + x, scores


def up(inputs, outputs, *geometry):
    layer = SpectralNorm(nn.ConvTranspose2d(inputs, outputs, 4, *geometry))
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Generator(nn.Module):
    def __init__(self, latent_dim, channels):
        super().__init__()
        self.l1 = up(latent_dim, 8 * channels)
        self.l2, self.l3, self.l4 = (up(2 * width * channels, width * channels, 2, 1) for width in (4, 2, 1))
        self.last = nn.Sequential(nn.ConvTranspose2d(channels, 3, 4, 2, 1), nn.Tanh())
        self.attn1, self.attn2 = SelfAttn(2 * channels), SelfAttn(channels)

    def forward(self, latent):
        x, first = self.attn1(self.l3(self.l2(self.l1(latent[:, :, None, None]))))
        x, second = self.attn2(self.l4(x))
        return self.last(x), first, second


class Discriminator(nn.Module):
    def __init__(self, channels):
        super().__init__()
        widths = [3, *(channels * width for width in (1, 2, 4, 8))]
        for i, (inputs, outputs) in enumerate(zip(widths, widths[1:]), start=1):
            layer = nn.Sequential(SpectralNorm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.1))
            setattr(self, f"l{i}", layer)
        self.last = nn.Sequential(nn.Conv2d(widths[-1], 1, 4))
        self.attn1, self.attn2 = SelfAttn(widths[3]), SelfAttn(widths[4])
