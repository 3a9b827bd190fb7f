"""Self-attention in NumPy float64, in its published forms, and a layer to compare with it."""

import numpy as np
from layers.spectral_oracle import normalized

from sagan_tf.layers import SelfAttention, SpectralNormalization

FORMS = {
    "authors": {},
    "paper": dict(value_reduction=8, pool_size=1),
    "first_arxiv": dict(
        value_reduction=1, pool_size=1, output_projection=False, spectral_normalization=False, use_bias=True
    ),
}


def built(shape=(2, 4, 6, 16), dtype="float32", **arguments):
    """A layer whose weights are all random, and inputs."""
    layer, rng = SelfAttention(dtype=dtype, **arguments), np.random.default_rng(0)
    layer.build(shape)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer, rng.normal(size=shape).astype("float32")


def kernel_and_bias(convolution):
    """Kernel and bias of a 1x1 convolution, float64, normalized by NumPy."""
    wrapped = isinstance(convolution, SpectralNormalization)
    weights = [weight.numpy().astype(np.float64) for weight in (convolution.layer if wrapped else convolution).weights]
    if wrapped:
        weights[0] = normalized(weights[0], convolution.u.numpy(), (3,))
    return weights[0][0, 0], weights[1] if len(weights) > 1 else 0.0


def attend(query, key, value):
    """Scores and mix of one image: query (H, W, D), key (M, D), value (M, E), one query after the other."""
    scores, mixed = [], []
    for position in query.reshape(-1, query.shape[-1]):
        logit = key @ position
        score = np.exp(logit - logit.max())
        scores.append(score / score.sum())
        mixed.append(scores[-1] @ value)
    return np.array(scores), np.array(mixed)


def oracle(layer, x):
    """Equations 1 to 3 of Zhang et al. 2019, float64: output and scores."""
    x, p = x.astype(np.float64), layer.pool_size
    batch, height, width, _ = x.shape
    maps = {}
    for name in ("query", "key", "value"):
        kernel, bias = kernel_and_bias(getattr(layer, name))
        maps[name] = x @ kernel + bias
    cells = [np.s_[row : row + p, column : column + p] for row in range(0, height, p) for column in range(0, width, p)]
    results = []
    for image in range(batch):
        pooled = (np.array([maps[name][image][cell].max(axis=(0, 1)) for cell in cells]) for name in ("key", "value"))
        results.append(attend(maps["query"][image], *pooled))
    scores, mixed = (np.array(part) for part in zip(*results))
    mixed = mixed.reshape(batch, height, width, -1)
    if layer.output_projection:
        kernel, bias = kernel_and_bias(layer.projection)
        mixed = mixed @ kernel + bias
    return x + float(layer.gamma.numpy()) * mixed, scores
