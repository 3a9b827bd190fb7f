"""Converts variables of TF-GAN's SAGAN, `tensorflow_gan.examples.self_attention_estimator` at 128 px.

The networks agree block by block. TF-GAN uses other names, stores tables of conditional batch normalization as
(K, 1, 1, C), and stores the other singular vector: for a kernel matrix W (rest, outputs) and its vector u, ours is
W^T u / |W^T u|, which starts the power iteration at the same point.
"""

import numpy as np

from sagan_tf.networks.named_weights import set_weights

_SIZES = (8, 16, 32, 64, 128)  # Feature map of generator block i, px.
_ATTENTION = {"theta": "query", "phi": "key", "g": "value", "attn": "projection"}
_BLOCK_CONVOLUTIONS = {"conv1": "conv_1", "conv2": "conv_2", "conv3": "skip"}
_SINGULAR_VECTOR = "spectral_norm_u"


def load_tf_gan(values, generator, discriminator):
    """Sets the weights of our networks from TF-GAN's variables.

    Args:
        values: dict, variable name as in TF-GAN's checkpoints, such as `generator/g_block1/cbn_0/gamma` -> array.
        generator, discriminator: 128 px networks with attention at 32 px.
    """
    converted = rename_variables(values)
    for part, network in (("generator", generator), ("discriminator", discriminator)):
        set_weights(network, converted[part], "TF-GAN's variables")


def rename_variables(values):
    """Gives TF-GAN's variables, or their gradients, our names and shapes: dict, network -> dict, name -> array."""
    layers = {"generator": _generator_layer, "discriminator": _discriminator_layer}
    return {
        part: _rename_part({n: np.asarray(v) for n, v in values.items() if n.startswith(f"{part}/")}, layer)
        for part, layer in layers.items()
    }


def _rename_part(values, layer_of):
    renamed = {}
    for name, value in values.items():
        try:
            renamed |= _rename_variable(name, value, values, layer_of)
        except (KeyError, IndexError, ValueError):
            renamed[name] = value  # Unknown name: reported as unexpected.
    return renamed


def _rename_variable(name, value, values, layer_of):
    scope, last = name.rsplit("/", 1)
    if last == _SINGULAR_VECTOR:
        kernel = _kernel_name(name)
        if kernel not in values:
            return {}  # The kernel is reported as missing.
        vector = _kernel_matrix(kernel, values[kernel]).T.astype(np.float64) @ value[:, 0]
        return {f"{layer_of(kernel.rsplit('/', 1)[0])}/u": (vector / np.linalg.norm(vector)).astype(np.float32)}
    if last == "embedding_map":
        return {"embedding/embeddings": value}
    if last == "sigma_ratio":
        return {"attention_32/gamma": value}
    if last in ("gamma", "beta"):
        table = value.reshape(value.shape[0], -1)
        return {f"{layer_of(scope)}/{last}": table[0] if scope.endswith("/g_bn") else table}
    return {f"{layer_of(scope)}/{'kernel' if last == 'weights' else last}": value}


def _kernel_name(vector_name):
    # The scope repeats the kernel's full name: generator/a/b/generator/a/b/kernel/spectral_normalize/...
    scope = vector_name.split("/spectral_normalize/")[0]
    if scope.endswith("d_embedding"):
        return f"{scope}/embedding_map"
    root = scope.split("/")[0]
    return f"{root}/" + scope.split(f"/{root}/")[-1]


def _kernel_matrix(name, kernel):
    """TF-GAN's matrix of a kernel, (rest, outputs); an embedding is transposed first."""
    if name.endswith("embedding_map"):
        return kernel.T
    return kernel.reshape(-1, kernel.shape[-1])


def _generator_layer(scope):
    part, *rest = scope.split("/")[1:]
    if part == "g_ops":
        return "attention_32/" + _ATTENTION[rest[0].removeprefix("sn_conv_")]
    if part.startswith("g_block"):
        layers = {"cbn_0": "norm_1", "cbn_1": "norm_2", **_BLOCK_CONVOLUTIONS}
        return f"block_{_SIZES[int(part.removeprefix('g_block')) - 1]}_{layers[rest[0].removeprefix('sn')]}"
    return {"g_snh0": "dense", "g_bn": "output_norm", "g_snconv_last": "output_conv"}[part]


def _discriminator_layer(scope):
    part, *rest = scope.split("/")[1:]
    if part == "d_ops":
        return "attention_32/" + _ATTENTION[rest[0].removeprefix("sn_conv_")]
    if "block" in part:
        number = part.rsplit("block", 1)[-1]
        return f"block_{number}_{_BLOCK_CONVOLUTIONS[rest[0].removeprefix('sn_')]}"
    return {"d_sn_linear": "output_dense", "d_embedding": "embedding"}[part]
