"""The inputs of every comparison, from NumPy alone, so that both environments make the same ones and none is stored."""

import zlib

import numpy as np

CHANNELS, LATENT_DIM, NUM_CLASSES, BATCH = 4, 16, 5, 3
EVERY_QUERY = 16  # of the 1024 rows of attention scores, every so many are kept


def normal(name, shape, dtype=np.float32):
    """N(0, 1) numbers that depend on the name and the shape alone."""
    words = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(2 * int(np.prod(shape, dtype=int)))
    uniform = ((words >> np.uint64(11)) + 0.5) * 2.0**-53
    first, second = uniform[0::2], uniform[1::2]
    return (np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)).reshape(shape).astype(dtype)


def network_values(shapes):
    """Values for the variables of TF-GAN's SAGAN, by their names there.

    Kernels get a largest singular value of about 3, for where it is below 1 TF-GAN leaves a kernel as it is and we do
    not. The stored vectors are singular vectors already: before, TF-GAN is half a power iteration apart from us.
    """
    values = {name: _network_value(name, shape) for name, shape in shapes.items()}
    kernels = {name: value for name, value in values.items() if _last(name) in _KERNELS}
    for name in values:
        if _last(name) == "spectral_norm_u":
            kernel = _kernel_of(name, kernels)
            matrix = kernel.reshape(-1, kernel.shape[-1]) if kernel.ndim > 2 or "embedding" not in name else kernel.T
            values[name] = np.linalg.svd(matrix.astype(np.float64))[0][:, :1].astype(np.float32)
    return values


_KERNELS = ("kernel", "weights", "embedding_map")


def _last(name):
    return name.rsplit("/", 1)[-1]


def _kernel_of(vector_name, kernels):
    # Its scope holds that of the kernel: generator/a/generator/a/kernel/spectral_normalize/...
    scope = vector_name.split("/spectral_normalize/")[0]
    return next(kernel for name, kernel in kernels.items() if scope.endswith(name) or name.startswith(scope + "/"))


def _network_value(name, shape):
    noise, last = normal(name, shape), _last(name)
    if last in _KERNELS:
        rows = int(np.prod(shape[:-1]))
        return noise * np.float32(3 / (np.sqrt(rows) + np.sqrt(shape[-1])))
    if last in ("moving_variance", "gamma"):
        return np.float32(1) + np.float32(0.2) * np.tanh(noise)
    if last == "sigma_ratio":
        return np.float32(0.7)
    return np.float32(0.1) * noise


def network_inputs():
    """Latents, labels, images, and the directions along which the generator's gradient is taken."""
    return {
        "latent": normal("latent", (BATCH, LATENT_DIM)),
        "label": np.array([4, 0, 2], np.int32),
        "image": np.tanh(normal("image", (BATCH, 128, 128, 3))),
        "direction": normal("direction", (BATCH, 128, 128, 3)),
    }


def logits():
    """Logits of real and generated pictures, some beyond the hinge's corners."""
    return {"real": 2 * normal("real_logit", (40, 1)), "fake": 2 * normal("fake_logit", (40, 1))}


def activations():
    """Two sets of features with different means and covariances, and logits of a classifier."""
    mix = normal("mix", (8, 8))
    first = normal("first", (300, 8), np.float64) @ mix
    second = normal("second", (260, 8), np.float64) @ (mix + 0.3 * normal("more", (8, 8))) + 0.5
    return {"first": first, "second": second, "class_logits": 2 * normal("class_logits", (300, 10), np.float64)}


SPECTRAL_SHAPES = {"dense": (7, 5), "conv": (3, 3, 4, 6)}
EMA_DECAY, EMA_STEPS = 0.97, 100


def ema_value(step):
    """The weights that the average follows."""
    return normal(f"ema_{step}", (6,))


def gradient_case():
    """A kernel whose largest singular value is 1, inputs, and the direction of a loss that is linear in the outputs.

    The loss grows with the outputs, as a discriminator's does: its gradient has a part along the kernel.
    """
    kernel, x = normal("gradient_kernel", (6, 4), np.float64), normal("gradient_x", (5, 6))
    kernel = (kernel / np.linalg.norm(kernel, 2)).astype(np.float32)
    return kernel, x, x @ kernel + normal("gradient_direction", (5, 4))
