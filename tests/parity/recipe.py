"""The inputs of every comparison, computed by NumPy only: equal in all environments, and not stored."""

import zlib

import numpy as np

CHANNELS, LATENT_DIM, NUM_CLASSES, BATCH = 4, 16, 5, 3
QUERY_STRIDE = 16  # One in 16 of the 1024 rows of attention scores is stored.


def normal(name, shape, dtype=np.float32):
    """Draws from N(0, 1), a pure function of name and shape."""
    words = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(2 * int(np.prod(shape, dtype=int)))
    uniform = ((words >> np.uint64(11)) + 0.5) * 2.0**-53
    first, second = uniform[0::2], uniform[1::2]
    return (np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)).reshape(shape).astype(dtype)


def network_values(shapes):
    """Makes values for the variables of TF-GAN's SAGAN, by their names there.

    Kernels have a largest singular value of about 3, since TF-GAN leaves kernels below 1 unchanged and we do not. The
    stored vectors are singular vectors, since before convergence TF-GAN is half a power iteration apart from us.
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
    # Its scope contains the kernel's name: generator/a/generator/a/kernel/spectral_normalize/...
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
    """Makes latents, labels, images, and the weights of the generator's output in its loss."""
    return {
        "latent": normal("latent", (BATCH, LATENT_DIM)),
        "label": np.array([4, 0, 2], np.int32),
        "image": np.tanh(normal("image", (BATCH, 128, 128, 3))),
        "direction": normal("direction", (BATCH, 128, 128, 3)),
    }


def logits():
    """Makes logits of real and generated images, on both sides of the hinges."""
    return {"real": 2 * normal("real_logit", (40, 1)), "fake": 2 * normal("fake_logit", (40, 1))}


def activations():
    """Makes two sets of features with different means and covariances, and logits of a classifier."""
    mix = normal("mix", (8, 8))
    first = normal("first", (300, 8), np.float64) @ mix
    second = normal("second", (260, 8), np.float64) @ (mix + 0.3 * normal("more", (8, 8))) + 0.5
    return {"first": first, "second": second, "class_logits": 2 * normal("class_logits", (300, 10), np.float64)}


def small_images():
    """Makes noise around gray, uint8 (2, 32, 32, 3)."""
    return np.clip(128 + 60 * normal("small_images", (2, 32, 32, 3), np.float64), 0, 255).astype(np.uint8)


SPECTRAL_SHAPES = {"dense": (7, 5), "conv": (3, 3, 4, 6)}
EMA_DECAY, EMA_STEPS = 0.97, 100


def ema_value(step):
    """Makes the weights of a step."""
    return normal(f"ema_{step}", (6,))


def gradient_case():
    """Makes a kernel with sigma 1, inputs, and the weights of the outputs in a linear loss.

    The loss grows with the outputs, as a discriminator's does, so its gradient has a component along the kernel.
    """
    kernel, x = normal("gradient_kernel", (6, 4), np.float64), normal("gradient_x", (5, 6))
    kernel = (kernel / np.linalg.norm(kernel, 2)).astype(np.float32)
    return kernel, x, x @ kernel + normal("gradient_direction", (5, 4))


# Attention at 64 px in BigGAN-PyTorch's layout, as in its script. Its generator for 64 px has widths of its own.
TORCH = {
    "biggan_pytorch_64": {
        "layout": "biggan_pytorch",
        "image_size": 64,
        "generator": {"widths": [64, 64, 32, 16, 8], "attention_after": [2]},
        "discriminator": {"widths": [8, 16, 32, 64, 128], "down": [True] * 4 + [False], "attention_after": [0]},
    },
    "biggan_pytorch": {
        "layout": "biggan_pytorch",
        "image_size": 128,
        "generator": {"widths": [64, 64, 32, 16, 8, 4], "attention_after": [3]},
        "discriminator": {"widths": [8, 16, 32, 64, 128, 128], "down": [True] * 5 + [False], "attention_after": [0]},
    },
    "studiogan": {
        "layout": "studiogan",
        "image_size": 32,
        "generator": {"widths": [16, 16, 16, 16], "attention_after": [1]},
        "discriminator": {"widths": [16, 16, 16, 16], "down": [True, True, False, False], "attention_after": [0]},
    },
}

MMAGIC_CHANNELS = 16
HEYKEETAE_CHANNELS = 8  # of the last map
HEYKEETAE_CHANNELS = 8  # of the last map


def torch_values(shapes):
    """Makes values for a PyTorch state dict of spectrally normalized layers, with converged u and v."""
    values = {name: _torch_value(name, tuple(shape)) for name, shape in shapes.items()}
    for name in values:
        for u_name, weight_name in (
            (".u0", ".weight"), (".weight_u", ".weight_orig"), (".weight_v", ".weight_orig"),
            (".weight_u", ".weight_bar"), (".weight_v", ".weight_bar"),
        ):  # fmt: skip
            weight = name.removesuffix(u_name) + weight_name
            if name.endswith(u_name) and weight in values:
                matrix = values[weight].astype(np.float64)
                left, _, right = np.linalg.svd(matrix.reshape(len(matrix), -1), full_matrices=False)
                vector = right[0] if u_name == ".weight_v" else left[:, 0]
                values[name] = vector.reshape(values[name].shape).astype(np.float32)
    return values


def _torch_value(name, shape):
    noise, last = normal(name, shape), _last(name.replace(".", "/"))
    if last == "num_batches_tracked":
        return np.array(7)
    if last in ("stored_var", "running_var", "sv0"):
        return np.float32(1) + np.float32(0.2) * np.tanh(noise)
    if last in ("gamma", "sigma"):
        return np.full(shape, 0.7, np.float32)
    if last == "gain" or (last == "weight" and len(shape) == 1):
        return np.float32(1) + np.float32(0.1) * noise
    if last in ("weight", "weight_orig", "weight_bar") and len(shape) > 1:
        return noise * np.float32(0.3)
    return np.float32(0.1) * noise


def torch_inputs(case):
    """Makes latents, labels and images for the PyTorch networks."""
    size = TORCH[case]["image_size"] if case in TORCH else 32
    return {
        "latent": normal("latent", (BATCH, LATENT_DIM)),
        "label": np.array([4, 0, 2], np.int64),
        "image": np.tanh(normal("image", (BATCH, size, size, 3))),
    }


SGD_STEPS, SGD_RATE = 20, 0.1
SGD_ITERATIONS = {"parametrization": 300, "hook": 1}  # Power iterations per call.


def sgd_cases():
    """Returns kind -> (arguments of PyTorch's layer, inputs, targets), channels first."""
    return {
        "dense": ((7, 5), normal("sgd_x", (16, 7)), normal("sgd_y", (16, 5))),
        "conv": ((3, 4, 3), normal("sgd_images", (4, 3, 6, 6)), normal("sgd_targets", (4, 4, 4, 4))),
    }


def sgd_start(kind):
    """Makes weight and bias in PyTorch's layout, and u."""
    shape = {"dense": (5, 7), "conv": (4, 3, 3, 3)}[kind]
    return normal(f"sgd_{kind}", shape), normal(f"sgd_bias_{kind}", shape[:1]), normal(f"sgd_u_{kind}", shape[:1])


ATTENTION_FORMS = {
    "authors": {"key_reduction": 8, "value_reduction": 2, "pool_size": 2, "output_projection": True, "use_bias": False},
    "paper": {"key_reduction": 8, "value_reduction": 8, "pool_size": 1, "output_projection": True, "use_bias": False},
    "ports": {"key_reduction": 8, "value_reduction": 1, "pool_size": 1, "output_projection": False, "use_bias": True},
}
ATTENTION_SHAPE = (2, 6, 4, 16)


def attention_input():
    """Makes a feature map (B, H, W, C)."""
    return normal("attention_input", ATTENTION_SHAPE)


def attention_direction():
    """Makes the weights of the outputs in a linear loss."""
    return normal("attention_direction", ATTENTION_SHAPE)


def attention_weights(form):
    """Makes kernels (1, 1, I, O), biases and gamma by our names."""
    options, channels = ATTENTION_FORMS[form], ATTENTION_SHAPE[-1]
    key, value = channels // options["key_reduction"], channels // options["value_reduction"]
    shapes = {"query": (channels, key), "key": (channels, key), "value": (channels, value)}
    if options["output_projection"]:
        shapes["projection"] = (value, channels)
    weights = {f"{name}/kernel": 0.5 * normal(f"{form}_{name}", (1, 1, *shape)) for name, shape in shapes.items()}
    if options["use_bias"]:
        weights |= {f"{name}/bias": 0.5 * normal(f"{form}_{name}_bias", shape[1:]) for name, shape in shapes.items()}
    return weights | {"gamma": np.float32(0.8)}


ADAM_RATE, ADAM_EPSILON = 0.01, 1e-7
