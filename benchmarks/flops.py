"""FLOPs of a network from its layers: convolutions, dense layers and attention, a multiplication and an addition being
two. They are those of the published networks, whichever way a layer computes: `layers.Conv2D` makes some of them at
once with a resampling, in fewer."""

from dataclasses import dataclass

import keras

from sagan_tf.layers import Conv2D, SelfAttention, SpectralNormalization


@dataclass(frozen=True)
class Convolution:
    """A convolution of stride 1.

    Args:
        name: str.
        size: int, height and width in px of the map that the kernel moves over: after an up-sampling, before a pooling.
        kernel: int, height and width.
        inputs, outputs: ints, channels.
    """

    name: str
    size: int
    kernel: int
    inputs: int
    outputs: int

    @property
    def flops(self):
        """Of an image."""
        return 2 * self.size**2 * self.kernel**2 * self.inputs * self.outputs


def convolutions_of(model):
    """Lists a model's convolutions, those inside attention too.

    Args:
        model: keras.Model of `sagan_tf.networks`.

    Returns:
        list of Convolutions, in the order of the model.
    """
    found = []
    for layer in model.layers:
        size = layer.output.shape[1] if len(layer.output.shape) == 4 else None
        inner = layer.layer if isinstance(layer, SpectralNormalization) else layer
        if isinstance(inner, Conv2D):
            factor = {"down": 2}.get(inner.resampling, 1)
            found.append(_convolution(layer.name, inner, factor * size))
        elif isinstance(layer, SelfAttention):
            for kind in ("query", "key", "value", *(["projection"] if layer.output_projection else [])):
                part = getattr(layer, kind)
                part = part.layer if isinstance(part, SpectralNormalization) else part
                found.append(_convolution(f"{layer.name}/{kind}", part, size))
    return found


def _convolution(name, layer, size):
    kernel, _, inputs, outputs = layer.kernel.shape
    return Convolution(name, size, kernel, inputs, outputs)


def flops_of(model):
    """FLOPs of an image in one forward call of a model.

    Args:
        model: keras.Model of `sagan_tf.networks`.

    Returns:
        int.
    """
    total = sum(one.flops for one in convolutions_of(model))
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
    """FLOPs of an image of the batch in a training step, with a backward pass twice a forward one.

    D's step: a picture of G, and D on it and on a real one, there and back. G's step: G there and back, D there and
    back to its input alone.

    Args:
        generator, discriminator: keras.Models.
        d_steps: int, updates of D a step.
        shared: bool. G's step takes the pictures of D's last one.

    Returns:
        int.
    """
    g, d = flops_of(generator), flops_of(discriminator)
    return d_steps * (g + 6 * d) + (2 if shared else 3) * g + 2 * d
