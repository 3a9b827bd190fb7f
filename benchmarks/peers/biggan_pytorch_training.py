"""Trains the SAGAN of `biggan_pytorch.py` on pictures, and writes samples of its average on the way.

    python benchmarks/peers/biggan_pytorch_training.py SPECIFICATION.json

The contender of `cifar10_peer.py`, which writes the specification: that of the networks, with their `parameters`, and
`pictures` (a .npz file of uint8 `images` (N, S, S, 3) and `labels` (N,)), `batch`, `steps`, `rates` (of generator and
discriminator) and `betas` of Adam, `decay` of the average, `flip`, `bfloat16`, `threads`, `seed`, `interval`,
`samples` and `out`. Every `interval` steps it writes OUT/STEP.npz, `samples` images of the average with their labels,
and OUT/state.pt, from which the same command continues. Imports PyTorch, NumPy and nothing of ours.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from biggan_pytorch import Training, count
from torch import nn

SAMPLE_BATCH = 250


class Pictures:
    """Batches in an order, with flips, that the seed and the step alone decide."""

    def __init__(self, spec):
        arrays = np.load(spec["pictures"])
        self.images, self.labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
        self.spec, self.epoch, self.order = spec, None, None

    def batch(self, step):
        batches = len(self.images) // self.spec["batch"]
        epoch, index = divmod(step, batches)
        if epoch != self.epoch:
            self.epoch, generator = epoch, torch.Generator().manual_seed(1000 * self.spec["seed"] + epoch)
            self.order = torch.randperm(len(self.images), generator=generator)
        chosen = self.order[index * self.spec["batch"] :][: self.spec["batch"]]
        images = self.images[chosen].permute(0, 3, 1, 2).float() / 127.5 - 1
        if self.spec["flip"]:
            flipped = torch.rand(len(images)) < 0.5
            images[flipped] = images[flipped].flip(3)
        return images, self.labels[chosen].long()


def initialize(training):
    """Orthogonal kernels and embeddings, as BigGAN-PyTorch's; class gains and biases start at none."""
    for network in (training.generator, training.discriminator):
        for layer in network.modules():
            if isinstance(layer, nn.Embedding) and not hasattr(layer, "u"):
                nn.init.zeros_(layer.weight)
            elif isinstance(layer, (nn.Conv2d, nn.Linear, nn.Embedding)):
                # PyTorch does not draw into a kernel whose channels are last.
                layer.weight.data.copy_(nn.init.orthogonal_(torch.empty(layer.weight.shape)))
                if getattr(layer, "bias", None) is not None:
                    nn.init.zeros_(layer.bias)
    training.average.load_state_dict(training.generator.state_dict())


def write_samples(training, spec, path):
    """Writes images of the average, with the labels in turn."""
    generator = torch.Generator().manual_seed(spec["seed"])
    labels = torch.arange(spec["samples"]) % spec["num_classes"]
    latents = torch.randn(spec["samples"], spec["latent_dim"], generator=generator)
    training.average.eval()
    with torch.no_grad():
        images = torch.cat([
            training.average(latent, label)
            for latent, label in zip(latents.split(SAMPLE_BATCH), labels.split(SAMPLE_BATCH))
        ])  # fmt: skip
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    save(path, lambda file: np.savez(file, images=levels.permute(0, 2, 3, 1).numpy(), labels=labels.numpy()))


def save(path, write):
    unfinished = path.with_suffix(".unfinished")
    with open(unfinished, "wb") as file:
        write(file)
    os.replace(unfinished, path)


def parts(training):
    return {name: getattr(training, name) for name in ("generator", "discriminator", "average", "adam_g", "adam_d")}


def main():
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(spec["threads"])
    torch.manual_seed(spec["seed"])
    out = Path(spec["out"])
    out.mkdir(parents=True, exist_ok=True)
    training = Training(spec, True, spec["bfloat16"], spec["rates"], spec["betas"], spec["decay"])
    counts = {"generator": count(training.generator), "discriminator": count(training.discriminator)}
    if counts != spec["parameters"]:
        raise SystemExit(f"error: the networks have {counts} parameters, not {spec['parameters']}.")
    initialize(training)
    pictures, first = Pictures(spec), 0
    if (out / "state.pt").exists():
        state = torch.load(out / "state.pt", weights_only=True)
        first = state["step"]
        torch.set_rng_state(state["random"])
        for name, part in parts(training).items():
            part.load_state_dict(state[name])
    began = time.monotonic()
    for step in range(first, spec["steps"]):
        image, training.label = pictures.batch(step)
        training.image = image.to(memory_format=training.layout)
        losses = training.step()
        done = step + 1
        if done % 100 == 0:
            speed = (done - first) / (time.monotonic() - began)
            line = f"step {done} of {spec['steps']}, {speed:.2f} steps/s, d {losses[0]:.3f}, g {losses[1]:.3f}"
            print(line, flush=True)
        if done % spec["interval"] == 0:
            write_samples(training, spec, out / f"{done}.npz")
            state = {name: part.state_dict() for name, part in parts(training).items()}
            state |= {"step": done, "random": torch.get_rng_state()}
            save(out / "state.pt", lambda file, state=state: torch.save(state, file))


if __name__ == "__main__":
    main()
