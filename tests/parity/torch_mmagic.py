"""SAGAN in PyTorch with the module names of mmagic (mmgeneration), its 32 px config; our own implementation.

With torch.nn.utils.spectral_norm, except in attention behind a later block of the discriminator, which has BigGAN's.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm
from torch_networks import Conv


class ConvModule(nn.Module):
    def __init__(self, inputs, outputs, size=3, bias=True, biggan=False):
        super().__init__()
        if biggan:
            self.conv = Conv(inputs, outputs, size, bias)
        else:
            self.conv = spectral_norm(nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias))

    def forward(self, x):
        return self.conv(x)


class ClassNorm(nn.Module):
    def __init__(self, num_classes, channels, normalized, epsilon):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=epsilon, affine=False)
        tables = (nn.Embedding(num_classes, channels) for _ in range(2))
        self.weight_embedding, self.bias_embedding = (spectral_norm(t) if normalized else t for t in tables)

    def forward(self, x, label):
        gain, bias = (table(label)[:, :, None, None] for table in (self.weight_embedding, self.bias_embedding))
        return self.norm(x) * (1 + gain) + bias


class Attention(nn.Module):
    def __init__(self, channels, biggan=False):
        super().__init__()
        for name, inputs, outputs in (("theta", 1, 1 / 8), ("phi", 1, 1 / 8), ("g", 1, 1 / 2), ("o", 1 / 2, 1)):
            setattr(self, name, ConvModule(int(inputs * channels), int(outputs * channels), 1, False, biggan))
        self.gamma = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        query, key, value = self.theta(x), F.max_pool2d(self.phi(x), 2), F.max_pool2d(self.g(x), 2)
        scores = torch.einsum("bcn,bcm->bnm", query.flatten(2), key.flatten(2)).softmax(-1)
        mixed = torch.einsum("bnm,bcm->bcn", scores, value.flatten(2)).unflatten(2, x.shape[2:])
        return x + self.gamma * self.o(mixed)


class UpBlock(nn.Module):
    def __init__(self, channels, num_classes, normalized, epsilon):
        super().__init__()
        self.conv_1, self.conv_2 = ConvModule(channels, channels), ConvModule(channels, channels)
        self.norm_1, self.norm_2 = (ClassNorm(num_classes, channels, normalized, epsilon) for _ in range(2))
        self.shortcut = ConvModule(channels, channels, 1)

    def forward(self, x, label):
        y = self.conv_1(F.interpolate(F.relu(self.norm_1(x, label)), scale_factor=2))
        return self.conv_2(F.relu(self.norm_2(y, label))) + self.shortcut(F.interpolate(x, scale_factor=2))


class DownBlock(nn.Module):
    def __init__(self, inputs, outputs, halves, in_place):
        super().__init__()
        self.conv_1, self.conv_2 = ConvModule(inputs, outputs), ConvModule(outputs, outputs)
        if halves:
            self.shortcut = ConvModule(inputs, outputs, 1)
        self.halves, self.is_first, self.in_place = halves, inputs == 3, in_place

    def forward(self, x):
        y = x if self.is_first else F.relu(x)
        x = y if self.in_place else x
        y = self.conv_2(F.relu(self.conv_1(y)))
        return F.avg_pool2d(y, 2) + F.avg_pool2d(self.shortcut(x), 2) if self.halves else y + x


class Generator(nn.Module):
    def __init__(self, channels, latent_dim, num_classes, normalized_tables, epsilon):
        super().__init__()
        self.channels, self.noise2feat = channels, spectral_norm(nn.Linear(latent_dim, 16 * channels))
        blocks = [UpBlock(channels, num_classes, normalized_tables, epsilon) for _ in range(3)]
        self.conv_blocks = nn.ModuleList([*blocks[:2], Attention(channels), blocks[2]])
        self.to_rgb = ConvModule(channels, 3)
        self.to_rgb.bn = nn.BatchNorm2d(channels, eps=epsilon)

    def forward(self, latent, label):
        x = self.noise2feat(latent).view(-1, self.channels, 4, 4)
        for block in self.conv_blocks:
            x = block(x) if isinstance(block, Attention) else block(x, label)
        return torch.tanh(self.to_rgb(F.relu(self.to_rgb.bn(x))))


class Discriminator(nn.Module):
    def __init__(self, channels, num_classes, in_place):
        super().__init__()
        self.from_rgb = DownBlock(3, channels, True, in_place)
        blocks = [DownBlock(channels, channels, halves, in_place) for halves in (True, False, False)]
        attention = [Attention(channels), Attention(channels, biggan=True)]
        self.conv_blocks = nn.ModuleList([attention[0], blocks[0], attention[1], *blocks[1:]])
        self.decision = spectral_norm(nn.Linear(channels, 1))
        self.proj_y = spectral_norm(nn.Embedding(num_classes, channels))

    def forward(self, image, label):
        x = self.from_rgb(image)
        for block in self.conv_blocks:
            x = block(x)
        features = F.relu(x).sum((2, 3))
        return self.decision(features) + (self.proj_y(label) * features).sum(1, keepdim=True)
