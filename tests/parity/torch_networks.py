"""SAGAN in PyTorch, with the module names of BigGAN-PyTorch and PyTorch-StudioGAN; our own implementation.

Restricted to what state dicts and evaluation need. `biggan_pytorch` keeps `u0` and computes sigma with one
power iteration from it; `studiogan` uses torch.nn.utils.spectral_norm and ReLUs that work in place.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm


class Normalized:
    """Mixin that divides the weight by the sigma of one power iteration from `u0`."""

    def keep_u(self, outputs):
        self.register_buffer("u0", torch.randn(1, outputs))
        self.register_buffer("sv0", torch.ones(1))

    def normalized(self):
        matrix = self.weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(self.u0 @ matrix)
            u = F.normalize(v @ matrix.T)
        return self.weight / (u @ matrix @ v.T).squeeze()


class Conv(nn.Conv2d, Normalized):
    def __init__(self, inputs, outputs, kernel_size=3, bias=True):
        super().__init__(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=bias)
        self.keep_u(outputs)

    def forward(self, x):
        return F.conv2d(x, self.normalized(), self.bias, padding=self.padding)


class Linear(nn.Linear, Normalized):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.keep_u(outputs)

    def forward(self, x):
        return F.linear(x, self.normalized(), self.bias)


class Embedding(nn.Embedding, Normalized):
    def __init__(self, rows, columns):
        super().__init__(rows, columns)
        self.keep_u(rows)

    def forward(self, label):
        return F.embedding(label, self.normalized())


def torch_conv(inputs, outputs, kernel_size=3, bias=True):
    return spectral_norm(nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=bias), eps=1e-6)


class Table(nn.Module):
    """Conditional BN with class tables: embeddings, or normalized linear layers of one-hot labels (StudioGAN)."""

    def __init__(self, layout, num_classes, channels):
        super().__init__()
        self.layout, self.num_classes = layout, num_classes
        if layout == "studiogan":
            self.bn = nn.BatchNorm2d(channels, eps=1e-4, affine=False)
            self.gain, self.bias = (
                spectral_norm(nn.Linear(num_classes, channels, bias=False), eps=1e-6) for _ in range(2)
            )
        else:
            self.gain, self.bias = nn.Embedding(num_classes, channels), nn.Embedding(num_classes, channels)
            self.register_buffer("stored_mean", torch.zeros(channels))
            self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, x, label):
        if self.layout == "studiogan":
            key, x = F.one_hot(label, self.num_classes).float(), self.bn(x)
        else:
            key, x = label, F.batch_norm(x, self.stored_mean, self.stored_var, eps=1e-5)
        return x * (1 + self.gain(key))[:, :, None, None] + self.bias(key)[:, :, None, None]


class OutputNorm(nn.Module):
    """BigGAN-PyTorch's unconditional BN."""

    def __init__(self, channels):
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, x):
        return F.batch_norm(x, self.stored_mean, self.stored_var, self.gain, self.bias, eps=1e-5)


class Attention(nn.Module):
    def __init__(self, layout, channels):
        super().__init__()
        conv = torch_conv if layout == "studiogan" else Conv
        self.kind = layout
        shapes = [(channels, channels // 8), (channels, channels // 8), (channels, channels // 2)]
        shapes.append((channels // 2, channels))
        for name, (inputs, outputs) in zip(self.names(), shapes):
            setattr(self, name, conv(inputs, outputs, 1, False))
        setattr(self, self.scale(), nn.Parameter(torch.zeros(1) if layout == "studiogan" else torch.tensor(0.0)))

    def names(self):
        if self.kind == "studiogan":
            return [f"conv1x1_{name}" for name in ("theta", "phi", "g", "attn")]
        return ["theta", "phi", "g", "o"]

    def scale(self):
        return "sigma" if self.kind == "studiogan" else "gamma"

    def forward(self, x):
        query, key, value, project = (getattr(self, name) for name in self.names())
        batch, _, height, width = x.shape
        scores = torch.softmax(query(x).flatten(2).transpose(1, 2) @ F.max_pool2d(key(x), 2).flatten(2), dim=-1)
        mixed = F.max_pool2d(value(x), 2).flatten(2) @ scores.transpose(1, 2)
        return x + getattr(self, self.scale()) * project(mixed.view(batch, -1, height, width))


def names_of(layout):
    return ("conv2d1", "conv2d2", "conv2d0") if layout == "studiogan" else ("conv1", "conv2", "conv_sc")


class UpBlock(nn.Module):
    def __init__(self, layout, inputs, outputs, num_classes):
        super().__init__()
        conv = torch_conv if layout == "studiogan" else Conv
        self.first, self.second, self.skip = names_of(layout)
        setattr(self, self.first, conv(inputs, outputs))
        setattr(self, self.second, conv(outputs, outputs))
        setattr(self, self.skip, conv(inputs, outputs, 1))
        self.bn1, self.bn2 = Table(layout, num_classes, inputs), Table(layout, num_classes, outputs)

    def forward(self, x, label):
        y = F.interpolate(F.relu(self.bn1(x, label)), scale_factor=2)
        y = F.relu(self.bn2(getattr(self, self.first)(y), label))
        return getattr(self, self.second)(y) + getattr(self, self.skip)(F.interpolate(x, scale_factor=2))


class DownBlock(nn.Module):
    def __init__(self, layout, inputs, outputs, down, first):
        super().__init__()
        conv = torch_conv if layout == "studiogan" else Conv
        self.in_place, self.down, self.is_first = layout == "studiogan", down, first
        self.first, self.second, self.skip = names_of(layout)
        setattr(self, self.first, conv(inputs, outputs))
        setattr(self, self.second, conv(outputs, outputs))
        if down or inputs != outputs:
            setattr(self, self.skip, conv(inputs, outputs, 1))

    def forward(self, x):
        y = x if self.is_first else F.relu(x)
        x = y if self.in_place else x
        y = getattr(self, self.second)(F.relu(getattr(self, self.first)(y)))
        if self.down:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        return y + (getattr(self, self.skip)(x) if hasattr(self, self.skip) else x)


def module_list(layout, blocks):
    """Nests modules: attention follows its block in one list (BigGAN-PyTorch) or has its own (StudioGAN)."""
    nested = (
        [[part] for pair in blocks for part in pair if part]
        if layout == "studiogan"
        else [[part for part in pair if part] for pair in blocks]
    )
    return nn.ModuleList([nn.ModuleList(parts) for parts in nested])


class Generator(nn.Module):
    def __init__(self, layout, widths, latent_dim, num_classes, attention_after):
        super().__init__()
        self.layout, self.width = layout, widths[0]
        linear = nn.Linear(latent_dim, widths[0] * 16) if layout == "studiogan" else Linear(latent_dim, widths[0] * 16)
        if layout == "studiogan":
            self.linear0 = spectral_norm(linear, eps=1e-6)
        else:
            self.linear = linear
        self.blocks = module_list(
            layout,
            [
                (UpBlock(layout, a, b, num_classes), Attention(layout, b) if i in attention_after else None)
                for i, (a, b) in enumerate(zip(widths, widths[1:]))
            ],
        )
        if layout == "studiogan":
            self.bn4, self.conv2d5 = nn.BatchNorm2d(widths[-1], eps=1e-4), torch_conv(widths[-1], 3)
        else:
            self.output_layer = nn.Sequential(OutputNorm(widths[-1]), nn.ReLU(), Conv(widths[-1], 3))

    def forward(self, latent, label):
        x = (self.linear0 if self.layout == "studiogan" else self.linear)(latent).view(-1, self.width, 4, 4)
        for part in (part for parts in self.blocks for part in parts):
            x = part(x, label) if isinstance(part, UpBlock) else part(x)
        if self.layout == "studiogan":
            return torch.tanh(self.conv2d5(F.relu(self.bn4(x))))
        return torch.tanh(self.output_layer(x))


class Discriminator(nn.Module):
    def __init__(self, layout, widths, down, num_classes, attention_after):
        super().__init__()
        self.layout = layout
        self.blocks = module_list(
            layout,
            [
                (DownBlock(layout, a, b, down[i], i == 0), Attention(layout, b) if i in attention_after else None)
                for i, (a, b) in enumerate(zip([3, *widths], widths))
            ],
        )
        if layout == "studiogan":
            self.linear1 = spectral_norm(nn.Linear(widths[-1], 1), eps=1e-6)
            self.embedding = spectral_norm(nn.Embedding(num_classes, widths[-1]), eps=1e-6)
        else:
            self.linear, self.embed = Linear(widths[-1], 1), Embedding(num_classes, widths[-1])

    def forward(self, image, label):
        x = image
        for part in (part for parts in self.blocks for part in parts):
            x = part(x)
        features = F.relu(x).sum((2, 3))
        linear, embedding = (self.linear1, self.embedding) if self.layout == "studiogan" else (self.linear, self.embed)
        return linear(features) + (embedding(label) * features).sum(1, keepdim=True)
