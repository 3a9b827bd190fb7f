"""Variables of TF-GAN's SAGAN (`tensorflow_gan.examples.self_attention_estimator`, 128 px) for our networks.

Both networks are the authors' and agree block by block; TF-GAN only names things otherwise, keeps the tables of
conditional batch normalisation as (K, 1, 1, C), and stores the other singular vector. With ours of a kernel matrix W
(rest, outputs) and theirs u, the power iteration starts at the same place when ours is W^T u / |W^T u|. Build the
generator with `batch_normalization_epsilon=1e-3`, TF-GAN's.

One difference is left. TF-GAN divides convolutions, dense layers and the embedding by max(1, sigma), which leaves a
kernel alone whose sigma is below 1; we divide by sigma, as the paper says. `check_constraint` refuses such weights.
"""

import numpy as np

from sagan_tf.conversion.named_weights import set_weights
from sagan_tf.errors import UserError

_SIZES = (8, 16, 32, 64, 128)  # Of the feature map that generator block i makes.
_ATTENTION = {"theta": "query", "phi": "key", "g": "value", "attn": "projection"}
_VECTOR = "spectral_norm_u"


def load_tf_gan(values, generator=None, discriminator=None):
    """Sets the weights of our networks from TF-GAN's variables.

    Args:
        values: dict, TF-GAN's variable name (as in its checkpoints, such as `generator/g_block1/cbn_0/gamma`) ->
            array. Names outside `generator/` and `discriminator/` are passed over.
        generator, discriminator: 128 px networks with attention at 32, or None.

    Raises:
        UserError: A tensor is missing, left over, of another shape, or has a sigma below 1; no weight was changed in
            the network concerned.
    """
    ours = rename(values)
    for part, network in (("generator", generator), ("discriminator", discriminator)):
        if network is not None:
            set_weights(network, ours[part], "TF-GAN's variables")


def rename(values):
    """Gives TF-GAN's variables, or gradients of them, our names and shapes.

    Args:
        values: dict as for `load_tf_gan`.

    Returns:
        dict, `generator` and `discriminator` -> dict of arrays by the names of `weights_by_name`.
    """
    layers = {"generator": _generator_layer, "discriminator": _discriminator_layer}
    return {
        part: _renamed({n: np.asarray(v) for n, v in values.items() if n.startswith(f"{part}/")}, layer)
        for part, layer in layers.items()
    }


def check_constraint(values):
    """Refuses kernels that TF-GAN would leave as they are and we would divide.

    Args:
        values: dict as for `load_tf_gan`.

    Raises:
        UserError: The sigma of a kernel under TF-GAN's inequality constraint is below 1.
    """
    for name, value in values.items():
        if name.endswith(("/kernel", "embedding_map")):
            sigma = np.linalg.norm(_matrix(name, value).astype(np.float64), 2)
            if sigma < 1:
                raise UserError(
                    f"{name}: has a largest singular value of {sigma:.3f}; TF-GAN leaves kernels below 1 as they are, "
                    "spectral normalisation as published makes it 1."
                )


def _renamed(values, layer_of):
    result = {}
    for name, value in values.items():
        try:
            result |= _one_renamed(name, value, values, layer_of)
        except (KeyError, IndexError, ValueError):
            result[name] = value  # A name that these networks do not have: to be reported as left over.
    return result


def _one_renamed(name, value, values, layer_of):
    scope, last = name.rsplit("/", 1)
    if last == _VECTOR:
        kernel = _kernel_of(name)
        if kernel not in values:
            return {}  # The missing kernel is reported.
        vector = _matrix(kernel, values[kernel]).T.astype(np.float64) @ value[:, 0]
        return {f"{layer_of(kernel.rsplit('/', 1)[0])}/u": (vector / np.linalg.norm(vector)).astype(np.float32)}
    if last == "embedding_map":
        return {"embedding/embeddings": value}
    if last == "sigma_ratio":
        return {"attention_32/gamma": value}
    if last in ("gamma", "beta"):
        table = value.reshape(value.shape[0], -1)
        return {f"{layer_of(scope)}/{last}": table[0] if scope.endswith("/g_bn") else table}
    return {f"{layer_of(scope)}/{'kernel' if last == 'weights' else last}": value}


def _kernel_of(vector_name):
    # A scope and then the kernel's full name: generator/a/b/generator/a/b/kernel/spectral_normalize/...
    scope = vector_name.split("/spectral_normalize/")[0]
    if scope.endswith("d_embedding"):
        return f"{scope}/embedding_map"
    first = scope.split("/")[0]
    return f"{first}/" + scope.split(f"/{first}/")[-1]


def _matrix(name, kernel):
    """TF-GAN's matrix of a kernel: (rest, outputs); an embedding is transposed first."""
    if name.endswith("embedding_map"):
        return kernel.T
    return kernel.reshape(-1, kernel.shape[-1])


def _generator_layer(scope):
    part, *rest = scope.split("/")[1:]
    if part == "g_ops":
        return "attention_32/" + _ATTENTION[rest[0].removeprefix("sn_conv_")]
    if part.startswith("g_block"):
        block = f"block_{_SIZES[int(part.removeprefix('g_block')) - 1]}"
        norms = {"cbn_0": "norm_1", "cbn_1": "norm_2"}
        return f"{block}_" + ({"snconv1": "conv_1", "snconv2": "conv_2", "snconv3": "skip"} | norms)[rest[0]]
    return {"g_snh0": "dense", "g_bn": "output_norm", "g_snconv_last": "output_conv"}[part]


def _discriminator_layer(scope):
    part, *rest = scope.split("/")[1:]
    if part == "d_ops":
        return "attention_32/" + _ATTENTION[rest[0].removeprefix("sn_conv_")]
    if "block" in part:
        number = part.rsplit("block", 1)[-1]
        return f"block_{number}_" + {"sn_conv1": "conv_1", "sn_conv2": "conv_2", "sn_conv3": "skip"}[rest[0]]
    return {"d_sn_linear": "output_dense", "d_embedding": "embedding"}[part]
