"""SAGAN's training step as in BigGAN-PyTorch, reimplemented from the published architecture.

    python benchmarks/peers/biggan_pytorch.py '{"image_size": 128, "channels": 32, ...}' channels_last bfloat16

A contender of `training_speed.py`, which defines the JSON. Imports PyTorch and nothing of ours, so that it runs in any
Python that has it. As in BigGAN-PyTorch: real and generated images in one call of D; a new batch of images for G's
update, with D's parameters frozen; one power iteration from the stored u in every training call, including that of D in
G's update; the 1x1 convolutions of the skips after up-sampling and, except in the first block, before pooling; an EMA
of the whole state. Before it starts, it builds the full-size networks without memory and checks their numbers of
parameters against the published ones. `compile` applies torch.compile to both networks, which the older BigGAN-PyTorch
does not. `generator` measures generator inference instead of a training step, `backward=generator` and
`backward=discriminator` a forward and backward pass of one network. On a GPU where there is one, in float32 without
TF32 unless `tf32` is given.
"""

import copy
import json
import sys

import torch
from torch import nn
from torch.nn import functional as F
from turns import resident_mib, take_turns

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# Trainable parameters at 128 px, 64 channels, 1,000 classes, attention at 64 px, as PyTorch-StudioGAN's published log
# of SAGAN on ImageNet prints them (logs/IMAGENET/SAGAN-train-2021_02_11); BigGAN-PyTorch's have the same shapes.
PUBLISHED = {"generator": 42_017_412, "discriminator": 39_448_258}
FULL = {
    "image_size": 128, "channels": 64, "num_classes": 1000, "latent_dim": 128, "attention_size": 64,
    "generator": [16, 16, 8, 4, 2, 1], "discriminator": [1, 2, 4, 8, 16, 16], "down": [True] * 5 + [False],
}  # fmt: skip


class Normalized(nn.Module):
    """Divides the weight by sigma after one power iteration; a training call stores u."""

    def keep_u(self):
        self.register_buffer("u", torch.randn(1, self.weight.shape[0]))

    def normalized(self):
        matrix = self.weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(self.u @ matrix)
            u = F.normalize(v @ matrix.T)
            if self.training:
                self.u.copy_(u)
        return self.weight / (v @ matrix.T @ u.T).squeeze()


class Conv(nn.Conv2d, Normalized):
    def __init__(self, inputs, outputs, size=3, bias=True):
        super().__init__(inputs, outputs, size, padding=size // 2, bias=bias)
        self.keep_u()

    def forward(self, x):
        return F.conv2d(x, self.normalized(), self.bias, padding=self.padding)


class Linear(nn.Linear, Normalized):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.keep_u()

    def forward(self, x):
        return F.linear(x, self.normalized(), self.bias)


class Embedding(nn.Embedding, Normalized):
    def __init__(self, rows, columns):
        super().__init__(rows, columns)
        self.keep_u()

    def forward(self, label):
        return F.embedding(label, self.normalized())


class ClassNorm(nn.Module):
    """Batch normalization with one gain and one bias per class."""

    def __init__(self, classes, channels):
        super().__init__()
        self.gain, self.bias = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, x, label):
        x = F.batch_norm(x, self.stored_mean, self.stored_var, None, None, self.training, 0.1, 1e-5)
        return x * (1 + self.gain(label))[:, :, None, None] + self.bias(label)[:, :, None, None]


class Attention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.theta, self.phi = Conv(channels, channels // 8, 1, False), Conv(channels, channels // 8, 1, False)
        self.g, self.o = Conv(channels, channels // 2, 1, False), Conv(channels // 2, channels, 1, False)
        self.gamma = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        batch, _, height, width = x.shape
        query, key = self.theta(x).flatten(2), F.max_pool2d(self.phi(x), 2).flatten(2)
        scores = torch.softmax(torch.bmm(query.transpose(1, 2), key), -1)
        mixed = torch.bmm(F.max_pool2d(self.g(x), 2).flatten(2), scores.transpose(1, 2))
        return x + self.gamma * self.o(mixed.view(batch, -1, height, width))


class UpBlock(nn.Module):
    def __init__(self, classes, inputs, outputs):
        super().__init__()
        self.norm1, self.norm2 = ClassNorm(classes, inputs), ClassNorm(classes, outputs)
        self.conv1, self.conv2, self.skip = Conv(inputs, outputs), Conv(outputs, outputs), Conv(inputs, outputs, 1)

    def forward(self, x, label):
        y = F.interpolate(F.relu(self.norm1(x, label)), scale_factor=2)
        y = self.conv2(F.relu(self.norm2(self.conv1(y), label)))
        return y + self.skip(F.interpolate(x, scale_factor=2))


class DownBlock(nn.Module):
    def __init__(self, inputs, outputs, down, first):
        super().__init__()
        self.conv1, self.conv2 = Conv(inputs, outputs), Conv(outputs, outputs)
        self.down, self.first = down, first
        self.skip = Conv(inputs, outputs, 1) if down or inputs != outputs else None

    def forward(self, x):
        y = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if not self.down:
            return y + (x if self.skip is None else self.skip(x))
        x = self.skip(F.avg_pool2d(x, 2)) if self.first else F.avg_pool2d(self.skip(x), 2)
        return F.avg_pool2d(y, 2) + x


class Generator(nn.Module):
    def __init__(self, spec):
        super().__init__()
        widths = [spec["channels"] * multiple for multiple in spec["generator"]]
        self.width, self.linear = widths[0], Linear(spec["latent_dim"], widths[0] * 16)
        self.blocks, size = nn.ModuleList(), 4
        for inputs, outputs in zip(widths, widths[1:]):
            size *= 2
            self.blocks.append(UpBlock(spec["num_classes"], inputs, outputs))
            if size == spec["attention_size"]:
                self.blocks.append(Attention(outputs))
        self.norm, self.conv = nn.BatchNorm2d(widths[-1]), Conv(widths[-1], 3)

    def forward(self, latent, label):
        x = self.linear(latent).view(-1, self.width, 4, 4)
        for block in self.blocks:
            x = block(x, label) if isinstance(block, UpBlock) else block(x)
        return torch.tanh(self.conv(F.relu(self.norm(x))))


class Discriminator(nn.Module):
    def __init__(self, spec):
        super().__init__()
        channels = spec.get("discriminator_channels", spec["channels"])
        widths = [channels * multiple for multiple in spec["discriminator"]]
        self.blocks, size, attention = nn.ModuleList(), spec["image_size"], spec["attention_size"]
        for i, (inputs, outputs, down) in enumerate(zip([3, *widths], widths, spec["down"])):
            self.blocks.append(DownBlock(inputs, outputs, down, i == 0))
            size = size // 2 if down else size
            if size == attention:
                self.blocks.append(Attention(outputs))
                attention = None  # only after the first block of this size
        self.linear, self.embed = Linear(widths[-1], 1), Embedding(spec["num_classes"], widths[-1])

    def forward(self, image, label):
        x = image
        for block in self.blocks:
            x = block(x)
        features = F.relu(x).sum((2, 3))
        return self.linear(features) + (self.embed(label) * features).sum(1, keepdim=True)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def check_published():
    with torch.device("meta"):
        counts = {"generator": count(Generator(FULL)), "discriminator": count(Discriminator(FULL))}
    if counts != PUBLISHED:
        raise SystemExit(f"the networks are not those that were published: {counts}, not {PUBLISHED}")


class Training:
    """Two networks and their training step."""

    def __init__(self, spec, channels_last, bfloat16, rates=(1e-4, 4e-4), betas=(0.0, 0.999), decay=0.9999):
        self.spec, self.bfloat16, self.decay = spec, bfloat16, decay
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.generator = Generator(spec).to(memory_format=self.layout)
        self.discriminator = Discriminator(spec).to(memory_format=self.layout)
        self.average = copy.deepcopy(self.generator)
        self.adam_g, self.adam_d = (
            torch.optim.Adam(network.parameters(), rate, tuple(betas), 1e-8)
            for network, rate in zip((self.generator, self.discriminator), rates)
        )
        size, batch = spec["image_size"], spec["batch"]
        self.image = (2 * torch.rand(batch, 3, size, size) - 1).to(memory_format=self.layout)
        self.label = torch.randint(spec["num_classes"], (batch,))

    def draw(self):
        batch = self.spec["batch"]
        return torch.randn(batch, self.spec["latent_dim"]), torch.randint(self.spec["num_classes"], (batch,))

    def step(self):
        with torch.autocast(DEVICE, torch.bfloat16, enabled=self.bfloat16):
            losses = self.discriminator_loss()
        self.update(self.adam_d, losses)
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(False)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=self.bfloat16):
            latent, label = self.draw()
            loss = -self.discriminator(self.generator(latent, label), label).mean()
        self.update(self.adam_g, loss)
        for parameter in self.discriminator.parameters():
            parameter.requires_grad_(True)
        self.move_average()
        return losses.item(), loss.item()

    def discriminator_loss(self):
        latent, label = self.draw()
        with torch.no_grad():
            fake = self.generator(latent, label)
        image, labels = torch.cat([fake.to(self.image.dtype), self.image]), torch.cat([label, self.label])
        made, real = self.discriminator(image, labels).chunk(2)
        return F.relu(1 - real).mean() + F.relu(1 + made).mean()

    @staticmethod
    def update(adam, loss):
        adam.zero_grad()
        loss.backward()
        adam.step()

    @torch.no_grad()
    def move_average(self):
        for average, value in zip(self.average.state_dict().values(), self.generator.state_dict().values()):
            average.copy_(average * self.decay + value * (1 - self.decay))


def main():
    imported = resident_mib("VmRSS")
    check_published()
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    torch.set_default_device(DEVICE)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = "tf32" in sys.argv[2:]
    torch.manual_seed(0)
    if "generator" in sys.argv[2:]:
        generate(spec, sys.argv[2:], imported)
        return
    for name, kind in (("generator", Generator), ("discriminator", Discriminator)):
        if f"backward={name}" in sys.argv[2:]:
            differentiate(spec, name, kind, sys.argv[2:], imported)
            return
    training = Training(spec, "channels_last" in sys.argv[2:], "bfloat16" in sys.argv[2:])
    counts = {"generator": count(training.generator), "discriminator": count(training.discriminator)}
    if "compile" in sys.argv[2:]:
        training.generator.compile()
        training.discriminator.compile()
    measure(training.step, counts, imported)


def measure(step, parameters, imported):
    gpu, peak = (torch.cuda.get_device_name(), torch.cuda.max_memory_allocated) if DEVICE == "cuda" else (None, None)
    description = {"parameters": parameters, "versions": {"torch": torch.__version__}, "gpu": gpu}
    take_turns(step, description, imported, gpu_peak=peak)


def differentiate(spec, name, kind, options, imported):
    """Measures a forward and backward pass of one network; see `backend_speed.py`."""
    layout = torch.channels_last if "channels_last" in options else torch.contiguous_format
    network = kind(spec).to(memory_format=layout)
    parameters = {name: count(network)}
    batch, size = spec["batch"], spec["image_size"]
    shape = (batch, 3, size, size) if name == "discriminator" else (batch, spec["latent_dim"])
    inputs = torch.randn(shape), torch.arange(batch) % spec["num_classes"]
    if name == "discriminator":
        inputs = inputs[0].to(memory_format=layout), inputs[1]
    if "compile" in options:
        network.compile()

    def step():
        network.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled="bfloat16" in options):
            output = network(*inputs)
        loss = output.float().mean()
        loss.backward()
        loss.item()

    measure(step, parameters, imported)


def generate(spec, options, imported):
    """Measures inference of a batch of images, with kernels divided by sigma once; see `generator_speed.py`."""
    layout = torch.channels_last if "channels_last" in options else torch.contiguous_format
    generator = Generator(spec).eval().to(memory_format=layout)
    parameters = count(generator)
    for layer in generator.modules():
        if isinstance(layer, Normalized):
            weight = layer.normalized().detach()
            layer.normalized = lambda weight=weight: weight
    latent = torch.randn(spec["batch"], spec["latent_dim"])
    label = torch.arange(spec["batch"]) % spec["num_classes"]
    paint = torch.compile(generator) if "compile" in options else generator

    @torch.no_grad()
    def step():
        paint(latent, label).cpu().numpy()

    measure(step, {"generator": parameters}, imported)


if __name__ == "__main__":
    main()
