"""Counts FLOPs of the published networks: convolutions, dense layers and attention; a multiply-add counts as two.

A layer may compute fewer: `layers.Conv2D` fuses some convolutions with resampling.
"""

from dataclasses import dataclass

import keras

from sagan_tf.layers import Conv2D, SelfAttention, SpectralNormalization


@dataclass(frozen=True)
class Convolution:
    """A convolution of stride 1."""

    name: str
    size: int  # px, side of the map that is convolved: after up-sampling, before pooling
    kernel: int  # side
    inputs: int  # channels
    outputs: int  # channels

    @property
    def flops(self):  # per image
        return 2 * self.size**2 * self.kernel**2 * self.inputs * self.outputs


def convolutions_of(model):
    """Lists the convolutions of a model of `sagan_tf.networks` in order, including those inside attention."""
    convolutions = []
    for layer in model.layers:
        size = layer.output.shape[1] if len(layer.output.shape) == 4 else None
        inner = layer.layer if isinstance(layer, SpectralNormalization) else layer
        if isinstance(inner, Conv2D):
            factor = {"down": 2}.get(inner.resampling, 1)
            convolutions.append(_convolution(layer.name, inner, factor * size))
        elif isinstance(layer, SelfAttention):
            for kind in ("query", "key", "value", *(["projection"] if layer.output_projection else [])):
                part = getattr(layer, kind)
                part = part.layer if isinstance(part, SpectralNormalization) else part
                convolutions.append(_convolution(f"{layer.name}/{kind}", part, size))
    return convolutions


def _convolution(name, layer, size):
    kernel, _, inputs, outputs = layer.kernel.shape
    return Convolution(name, size, kernel, inputs, outputs)


def flops_of(model):
    """Counts the FLOPs of a forward pass, per image."""
    total = sum(convolution.flops for convolution in convolutions_of(model))
    for layer in model.layers:
        inner = layer.layer if isinstance(layer, SpectralNormalization) else layer
        if isinstance(inner, keras.layers.Dense):
            total += 2 * inner.kernel.shape[0] * inner.kernel.shape[1]
        elif isinstance(layer, SelfAttention):
            _, height, width, channels = layer.output.shape
            keys = height * width // layer.pool_size**2
            total += 2 * height * width * keys * (channels // layer.key_reduction + channels // layer.value_reduction)
    return total


def flops_of_step(generator, discriminator, d_steps=1, shared=False):
    """Counts the FLOPs of a training step, per image of the batch; a backward pass costs two forward passes.

    `shared`: G's update reuses the images of D's last update.
    """
    # D's update: forward through G; forward and backward through D for a generated and a real image. G's update:
    # forward and backward through G, and through D with respect to its input only.
    g, d = flops_of(generator), flops_of(discriminator)
    return d_steps * (g + 6 * d) + (2 if shared else 3) * g + 2 * d
