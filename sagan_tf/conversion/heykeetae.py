"""Converts the generator of heykeetae's Self-Attention-GAN: a DCGAN for 64 px with attention at 16 and 32 px.

It has no classes. Its transposed convolutions are spectrally normalized by their input channels, which the layers here
do not do, so that they become plain kernels W / sigma: the network makes images and is not trained further. As there at
evaluation, sigma comes from one power iteration that starts at the stored u.
"""

import keras
import numpy as np

from sagan_tf.errors import UserError
from sagan_tf.layers import BatchNormalization, ReLU, SelfAttention
from sagan_tf.networks.named_weights import set_weights

IMAGE_SIZE, ATTENTION_SIZES = 64, (16, 32)
ATTENTION = dict(key_reduction=8, value_reduction=1, pool_size=1, output_projection=False, use_bias=True)
_FIRST_SIZE, _KERNEL = 4, 4  # px
_MARK = "l1.0.module.weight_bar"
_ATTENTION_NAMES = {"query": "query_conv", "key": "key_conv", "value": "value_conv"}
_NORMALIZATION = {
    "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip


def is_heykeetae(state):
    """Whether a state dict has the names of heykeetae's networks."""
    return _MARK in state


def convert_generator(state, source):
    """Builds the generator of a state dict.

    Symbols: B batch, D latent dimensions.

    Args:
        state: dict, name -> array, for which `is_heykeetae` is True.
        source: str, for messages.

    Returns:
        keras.Model: latent (B, D) ~ N(0, 1) -> image (B, 64, 64, channels) float32 in [-1, 1].

    Raises:
        UserError: It is the discriminator, a tensor is missing, unknown or of another shape, or it is not for 64 px.
    """
    if "l1.1.running_mean" not in state:
        raise UserError(
            f"{source}: is the discriminator of heykeetae's Self-Attention-GAN; only its generator is read."
        )
    reader, values = _Reader(state, source), {}
    first = reader.normalized("l1.0.module")  # (D, C, 4, 4)
    widths = [first.shape[1]]
    values["dense/kernel"] = first.transpose(0, 2, 3, 1).reshape(len(first), -1)
    values["dense/bias"] = np.tile(reader.take("l1.0.module.bias"), _FIRST_SIZE**2)
    values |= reader.normalization("l1.1", "norm_4")
    for number, size in ((2, 8), (3, 16), (4, 32)):
        kernel = reader.normalized(f"l{number}.0.module")
        widths.append(kernel.shape[1])
        values[f"conv_{size}/kernel"] = kernel.transpose(2, 3, 1, 0)
        values[f"conv_{size}/bias"] = reader.take(f"l{number}.0.module.bias")
        values |= reader.normalization(f"l{number}.1", f"norm_{size}")
    for number, size in enumerate(ATTENTION_SIZES, start=1):
        values |= reader.attention(f"attn{number}", f"attention_{size}")
    last = reader.take("last.0.weight")
    values |= {"output_conv/kernel": last.transpose(2, 3, 1, 0), "output_conv/bias": reader.take("last.0.bias")}
    network = build_generator(len(first), widths, last.shape[1])
    set_weights(network, values, source, reader.unused())
    return network


def build_generator(latent_dim, widths, image_channels):
    """Builds the network, with plain kernels; `widths` are the channels of the maps of 4, 8, 16 and 32 px."""

    def transposed(filters, name):
        options = dict(strides=2, padding="same", data_format="channels_last")
        return keras.layers.Conv2DTranspose(filters, _KERNEL, **options, name=name)

    latent = keras.Input((latent_dim,), name="latent")
    x = keras.layers.Dense(_FIRST_SIZE**2 * widths[0], name="dense")(latent)
    x = keras.layers.Reshape((_FIRST_SIZE, _FIRST_SIZE, widths[0]), name="reshape")(x)
    size = _FIRST_SIZE
    for width in widths:
        if size > _FIRST_SIZE:
            x = transposed(width, f"conv_{size}")(x)
        x = ReLU(name=f"relu_{size}")(BatchNormalization(epsilon=1e-5, name=f"norm_{size}")(x))
        if size in ATTENTION_SIZES:
            x = SelfAttention(**ATTENTION, spectral_normalization=False, name=f"attention_{size}")(x)
        size *= 2
    x = transposed(image_channels, "output_conv")(x)
    image = keras.layers.Activation("tanh", dtype="float32", name="image")(x)
    return keras.Model(latent, image, name="generator")


class _Reader:
    """Takes tensors of a state dict, and keeps track of those used."""

    def __init__(self, state, source):
        self._state, self._source, self._used = state, source, set()

    def take(self, name):
        if name not in self._state:
            raise UserError(f"{self._source}: {name} is missing; of heykeetae's generators, those for 64 px are read.")
        self._used.add(name)
        return np.asarray(self._state[name])

    def unused(self):
        known = {name for name in self._state if name.endswith(("num_batches_tracked", "module.weight_v"))}
        return sorted(set(self._state) - self._used - known)

    def normalized(self, module):
        """The kernel (I, O, 4, 4) of a transposed convolution divided by its sigma."""
        kernel, u = np.float64(self.take(f"{module}.weight_bar")), np.float64(self.take(f"{module}.weight_u"))
        if kernel.ndim != 4 or kernel.shape[2:] != (_KERNEL, _KERNEL):
            raise UserError(f"{self._source}: {module}.weight_bar is {kernel.shape}, expected (I, O, 4, 4).")
        matrix = kernel.reshape(len(kernel), -1)
        v = u @ matrix
        if not np.linalg.norm(v):
            raise UserError(f"{self._source}: {module}.weight_u gives no sigma; it or the kernel is zero.")
        sigma = np.linalg.norm(matrix @ (v / np.linalg.norm(v)))
        return np.float32(kernel / sigma)

    def normalization(self, module, name):
        return {f"{name}/{ours}": self.take(f"{module}.{theirs}") for ours, theirs in _NORMALIZATION.items()}

    def attention(self, module, name):
        values = {f"{name}/gamma": self.take(f"{module}.gamma").reshape(())}
        for ours, theirs in _ATTENTION_NAMES.items():
            values[f"{name}/{ours}/kernel"] = self.take(f"{module}.{theirs}.weight").transpose(2, 3, 1, 0)
            values[f"{name}/{ours}/bias"] = self.take(f"{module}.{theirs}.bias")
        return values
