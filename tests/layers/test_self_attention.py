"""SelfAttention against a NumPy float64 oracle in its published forms, and its invariants."""

import keras
import numpy as np
import pytest

from sagan_tf.layers import SelfAttention

FORMS = {
    "authors": {},
    "paper": dict(value_reduction=8, pool_size=1),
    "first_arxiv": dict(
        value_reduction=1, pool_size=1, output_projection=False, spectral_normalization=False, use_bias=True
    ),
}


def built(shape=(2, 4, 6, 16), seed=0, **arguments):
    keras.utils.set_random_seed(seed)
    layer = SelfAttention(**arguments)
    x = np.random.default_rng(seed).normal(size=shape).astype("float32")
    layer(x)
    layer.gamma.assign(0.7)
    return layer, x


def plain_weights(convolution):
    plain = convolution.fold() if hasattr(convolution, "fold") else convolution
    weights = [weight.numpy().astype(np.float64) for weight in plain.weights]
    return weights[0][0, 0], weights[1] if len(weights) > 1 else 0.0


def oracle(layer, x):
    """Equations 1 to 3 of Zhang et al. 2019 with explicit loops over pooled positions, float64."""
    x = x.astype(np.float64)
    batch, height, width, channels = x.shape
    p = layer.pool_size

    def project(name):
        kernel, bias = plain_weights(getattr(layer, name))
        return x @ kernel + bias

    def pooled(t):
        cells = [
            t[:, i : i + p, j : j + p].max(axis=(1, 2)) for i in range(0, height, p) for j in range(0, width, p)
        ]
        return np.stack(cells, axis=1)

    query = project("query").reshape(batch, height * width, -1)
    key, value = pooled(project("key")), pooled(project("value"))
    logits = np.einsum("bnd,bmd->bnm", query, key)
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    mixed = np.einsum("bnm,bmc->bnc", scores, value).reshape(batch, height, width, -1)
    if layer.output_projection:
        kernel, bias = plain_weights(layer.projection)
        mixed = mixed @ kernel + bias
    return x + float(layer.gamma.numpy()) * mixed, scores


@pytest.mark.parametrize("form", FORMS)
def test_output_and_scores_match_numpy_float64(form):
    layer, x = built(**FORMS[form])
    output, scores = layer(x, return_attention_scores=True)
    want, want_scores = oracle(layer, x)
    np.testing.assert_allclose(output, want, atol=1e-5)
    np.testing.assert_allclose(scores, want_scores, atol=1e-5)


def test_rows_of_scores_sum_to_one_over_the_keys():
    layer, x = built()
    scores = np.array(layer(x, return_attention_scores=True)[1])
    assert scores.shape == (2, 24, 6)
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-6)


def test_layer_starts_as_identity_and_gamma_has_a_gradient():
    import tensorflow as tf

    layer = SelfAttention()
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 16)).astype("float32")
    with tf.GradientTape() as tape:
        output = layer(x, training=True)
        loss = tf.reduce_sum(output**3)
    np.testing.assert_array_equal(output, x)
    assert abs(float(tape.gradient(loss, layer.gamma.value))) > 1e-3


def test_permuting_positions_permutes_the_output_without_pooling():
    layer, x = built(pool_size=1)
    order = np.random.default_rng(1).permutation(24)
    shuffled = x.reshape(2, 24, 16)[:, order].reshape(x.shape)
    want = np.array(layer(x)).reshape(2, 24, 16)[:, order].reshape(x.shape)
    np.testing.assert_allclose(layer(shuffled), want, atol=1e-5)


@pytest.mark.parametrize("channels, count", [(256, 81_921), (128, 20_481)])
def test_parameter_count_is_the_authors(channels, count):
    layer = SelfAttention()
    layer.build((None, 8, 8, channels))
    assert sum(np.prod(w.shape, dtype=int) for w in layer.trainable_weights) == count


def test_bfloat16_is_close_and_scores_stay_float32():
    layer, x = built()
    low = SelfAttention(dtype="mixed_bfloat16")
    low(x)
    low.set_weights(layer.get_weights())
    output, scores = low(x, return_attention_scores=True)
    assert keras.backend.standardize_dtype(output.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(scores.dtype) == "float32"
    np.testing.assert_allclose(np.array(scores).sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(keras.ops.cast(output, "float32"), layer(x), atol=0.05)


def test_saved_model_with_scores_computes_the_same(tmp_path):
    inputs = keras.Input((4, 6, 16))
    model = keras.Model(inputs, SelfAttention(value_reduction=4)(inputs, return_attention_scores=True))
    assert model.output_shape == [(None, 4, 6, 16), (None, 24, 6)]
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(3, 4, 6, 16)).astype("float32")
    for a, b in zip(keras.models.load_model(tmp_path / "model.keras")(x), model(x)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "arguments, shape, message",
    [
        ({}, (2, 4, 4, 7), "key_reduction"),
        ({"pool_size": 2}, (2, 5, 4, 16), "pool_size"),
        ({}, (2, None, None, 16), "known height"),
        ({}, (2, 16, 16), "feature map"),
    ],
)
def test_rejects_shapes_it_cannot_take(arguments, shape, message):
    with pytest.raises(ValueError, match=message):
        SelfAttention(**arguments).build(shape)


@pytest.mark.parametrize(
    "arguments", [{"output_projection": False}, {"key_reduction": 0}, {"pool_size": 1.5}, {"value_reduction": True}]
)
def test_rejects_arguments_that_contradict(arguments):
    with pytest.raises(ValueError, match="Received"):
        SelfAttention(**arguments)
