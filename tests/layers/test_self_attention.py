"""SelfAttention against a NumPy float64 oracle in its published forms, and its invariants."""

import contextlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_contract import CONTRACT, Subject
from layers.attention_oracle import FORMS, built, oracle
from layers.spectral_oracle import relative_error

from sagan_tf.layers import SelfAttention


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "arguments, trainable, non_trainable",
    [
        ({}, 1.25 * 32**2 + 1, 4 + 4 + 16 + 32),
        (FORMS["paper"], 0.5 * 32**2 + 1, 4 + 4 + 4 + 32),
        ({"query_block_size": 5}, 1.25 * 32**2 + 1, 4 + 4 + 16 + 32),
    ],
    ids=["authors", "paper", "in blocks"],
)
def test_self_attention_meets_contract(check, arguments, trainable, non_trainable, tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 32)).astype("float32")
    subject = Subject(lambda dtype: SelfAttention(dtype=dtype, **arguments), x, x.shape, trainable, non_trainable)
    check(subject, tmp_path)


# Sums of at most 24 products of numbers near 1, some of them in the exponent.
@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_self_attention_output_and_scores_match_numpy(form, training, dtype, tolerance):
    layer, x = built(dtype=dtype, **FORMS[form])
    want, want_scores = oracle(layer, x)
    output, scores = layer(x, training=training, return_attention_scores=True)
    assert relative_error(output, want) < tolerance
    assert relative_error(scores, want_scores) < tolerance


@settings(max_examples=20)
@given(
    rows=st.integers(1, 3),
    columns=st.integers(2, 3),  # Keras' softmax warns about a single key
    pool_size=st.integers(1, 3),
    channels=st.integers(4, 9),
    key_reduction=st.integers(1, 4),
    value_reduction=st.integers(1, 4),
    use_bias=st.booleans(),
)
def test_self_attention_matches_numpy_for_any_shape(rows, columns, pool_size, channels, **arguments):
    layer, x = built((2, rows * pool_size, columns * pool_size, channels), "float64", pool_size=pool_size, **arguments)
    for got, want in zip(layer(x, return_attention_scores=True), oracle(layer, x)):
        assert relative_error(got, want) < 1e-10


# In the paper's form, 8 channels give a value of one channel.
@pytest.mark.parametrize("form, channels", [*((form, 16) for form in FORMS), ("paper", 8)])
def test_self_attention_gradient_matches_finite_differences(form, channels):
    layer, x = built((2, 4, 6, channels), "float64", **(FORMS[form] | {"spectral_normalization": False}))
    rng, step = np.random.default_rng(1), 1e-6
    start = [x.astype(np.float64), *(weight.numpy() for weight in layer.weights)]
    direction = [rng.normal(size=value.shape) for value in start]
    upstream = rng.normal(size=x.shape)

    def loss(t):
        moved = [value + t * change for value, change in zip(start, direction)]
        layer.set_weights(moved[1:])
        return np.sum(upstream * oracle(layer, moved[0])[0])

    want = (loss(step) - loss(-step)) / (2 * step)
    layer.set_weights(start[1:])
    inputs = tf.constant(start[0])
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        total = tf.reduce_sum(upstream * layer(inputs))
    gradients = tape.gradient(total, [inputs, *(weight.value for weight in layer.weights)])
    # The slope is near 1e3 and the loss too: rounding over the step is near 1e-7.
    assert sum(np.sum(g * d) for g, d in zip(gradients, direction)) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_self_attention_scores_sum_to_one_over_keys(form, policy):
    layer, x = built(dtype=policy, **FORMS[form])
    scores = np.array(layer(x, return_attention_scores=True)[1])
    assert scores.dtype == ("float64" if policy == "float64" else "float32")
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(axis=2), 1, atol=1e-6)
    assert np.abs(scores.sum(axis=1) - 1).max() > 0.1  # sums over queries are unconstrained


@pytest.mark.parametrize("pool_size", [1, 2])
def test_self_attention_scores_are_in_row_order(pool_size):
    """One large query at one position attends to one large key at another."""
    layer = SelfAttention(
        key_reduction=4, value_reduction=1, pool_size=pool_size, output_projection=False, spectral_normalization=False
    )
    x = np.zeros((1, 4, 6, 4), "float32")
    x[0, 1, 4, 0] = 10  # the query
    x[0, 3, 2, 1] = 10  # the key
    layer(x)
    layer.query.kernel.assign(np.array([1, 0, 0, 0]).reshape(1, 1, 4, 1))
    layer.key.kernel.assign(np.array([0, 1, 0, 0]).reshape(1, 1, 4, 1))
    scores = np.array(layer(x, return_attention_scores=True)[1])[0]
    query, key = 1 * 6 + 4, (3 // pool_size) * (6 // pool_size) + 2 // pool_size
    assert scores[query, key] == pytest.approx(1)
    others = np.delete(scores, query, axis=0)
    np.testing.assert_allclose(others, 1 / scores.shape[1], rtol=1e-6)  # a zero query gives uniform scores


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
def test_self_attention_starts_as_identity(policy):
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 4, 16)), policy.removeprefix("mixed_"))
    for training in (False, True):
        np.testing.assert_array_equal(SelfAttention(dtype=policy)(x, training=training), x)


def test_self_attention_only_gamma_has_a_gradient_at_the_start():
    layer, x = SelfAttention(), np.random.default_rng(0).normal(size=(2, 4, 4, 16)).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, training=True) ** 3)
    gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
    sizes = {weight.path: float(tf.norm(g)) for weight, g in zip(layer.trainable_weights, gradients, strict=True)}
    assert sizes.pop(layer.gamma.path) > 1e-3
    assert len(sizes) == 4
    assert set(sizes.values()) == {0.0}


@pytest.mark.parametrize("normalize", [False, True])
def test_self_attention_query_and_key_start_different(normalize):
    layer = SelfAttention(spectral_normalization=normalize)
    layer.build((None, 4, 4, 16))
    query, key = (part.layer if normalize else part for part in (layer.query, layer.key))
    assert not np.array_equal(query.kernel, key.kernel)


def test_self_attention_takes_a_function_as_initializer():
    layer = SelfAttention(kernel_initializer=lambda shape, dtype=None: tf.fill(shape, tf.cast(0.5, dtype)))
    layer.build((None, 4, 4, 16))
    assert (np.array(layer.query.layer.kernel) == 0.5).all()


def test_self_attention_commutes_with_permutations_without_pooling():
    layer, x = built(pool_size=1)
    order = np.random.default_rng(1).permutation(24)
    shuffled = x.reshape(2, 24, 16)[:, order].reshape(x.shape)
    want = np.array(layer(x)).reshape(2, 24, 16)[:, order].reshape(x.shape)
    np.testing.assert_allclose(layer(shuffled), want, atol=1e-5)
    pooled = built()[0]  # control: with pooling neighbors matter
    want = np.array(pooled(x)).reshape(2, 24, 16)[:, order].reshape(x.shape)
    assert np.abs(pooled(shuffled) - want).max() > 0.1


def test_self_attention_images_of_a_batch_are_independent():
    layer, x = built((3, 4, 6, 16))
    together = layer(x)
    for i in range(3):
        np.testing.assert_allclose(layer(x[i : i + 1])[0], together[i], atol=1e-5)


@pytest.mark.parametrize("channels, count", [(256, 81_921), (128, 20_481), (64, 5_121)])
def test_self_attention_parameter_count_matches_authors_code(channels, count):
    layer = SelfAttention()
    layer.build((None, 8, 8, channels))
    assert sum(weight.numpy().size for weight in layer.trainable_weights) == count == 1.25 * channels**2 + 1


# 8 and 11 significant bits: a relative error of 2**-8 and 2**-11 in each of some ten roundings.
@pytest.mark.parametrize("policy, tolerance", [("mixed_bfloat16", 0.03), ("mixed_float16", 0.004)])
def test_self_attention_low_precision_is_close_to_float32(policy, tolerance):
    layer, x = built()
    low = SelfAttention(dtype=policy)
    low.build(x.shape)
    low.set_weights(layer.get_weights())
    assert relative_error(tf.cast(low(x), "float32"), layer(x)) < tolerance


def test_self_attention_casts_no_map_to_float32_and_back():
    layer, x = SelfAttention(dtype="mixed_bfloat16"), tf.ones((1, 4, 4, 16))
    layer(x)

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            output = layer(x)
        return tape.gradient(output, [variable.value for variable in layer.trainable_variables])

    casts = [operation for operation in gradient.get_concrete_function().graph.get_operations()
             if operation.type == "Cast" and operation.inputs[0].op.type == "Cast"]  # fmt: skip
    assert casts and not [cast for cast in casts if cast.inputs[0].op.inputs[0].dtype == tf.bfloat16]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "float64"])
def test_self_attention_symbolic_scores_match_eager_shape_and_type(policy):
    inputs = keras.Input((4, 6, 16))
    model = keras.Model(inputs, SelfAttention(dtype=policy)(inputs, return_attention_scores=True))
    assert model.output_shape == [(None, 4, 6, 16), (None, 24, 6)]
    eager = model(np.zeros((3, 4, 6, 16), "float32"))
    assert [tuple(x.shape) for x in eager] == [(3, 4, 6, 16), (3, 24, 6)]
    assert [x.dtype.name for x in eager] == [x.dtype for x in model.output]


def test_self_attention_with_scores_is_unchanged_by_save_and_load(tmp_path):
    inputs = keras.Input((4, 6, 16))
    layer = SelfAttention(value_reduction=4, kernel_initializer=keras.initializers.Orthogonal(2.0, seed=3))
    model = keras.Model(inputs, layer(inputs, return_attention_scores=True))
    layer.gamma.assign(0.7)
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(3, 4, 6, 16)).astype("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for got, want in zip(loaded(x), model(x), strict=True):
        np.testing.assert_array_equal(got, want)
    assert loaded.layers[-1].get_config() == layer.get_config()
    assert loaded.layers[-1].kernel_initializer.gain == 2.0


TOO_LARGE, UNEVEN = "must not exceed the channels of the feature map", "`pool_size` must divide height and width"


@pytest.mark.parametrize(
    "arguments, shape, problem, received",
    [
        ({}, (2, 4, 4, 7), f"`key_reduction` {TOO_LARGE}", "key_reduction=8, "),
        (
            {"key_reduction": 1, "value_reduction": 4},
            (2, 4, 4, 3),
            f"`value_reduction` {TOO_LARGE}",
            "value_reduction=4, ",
        ),
        ({}, (2, 4, 5, 16), UNEVEN, "pool_size=2, "),
        ({"pool_size": 3}, (2, 4, 6, 16), UNEVEN, "pool_size=3, "),
        (
            {},
            (2, None, None, 16),
            "`SelfAttention` needs a known height, width and number of channels: give the model's Input a full shape",
            "",
        ),
        ({}, (2, 16, 16), "`SelfAttention` takes a feature map (batch, height, width, channels)", ""),
    ],
)
def test_self_attention_rejects_unusable_shapes(arguments, shape, problem, received):
    with pytest.raises(ValueError) as error:
        SelfAttention(**arguments).build(shape)
    assert str(error.value) == f"{problem}. Received: {received}input_shape={shape}."


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"key_reduction": 0}, "`key_reduction` must be an integer >= 1. Received: key_reduction=0."),
        ({"pool_size": 1.5}, "`pool_size` must be an integer >= 1. Received: pool_size=1.5."),
        ({"query_block_size": 0}, "`query_block_size` must be an integer >= 1. Received: query_block_size=0."),
        ({"value_reduction": True}, "`value_reduction` must be an integer >= 1. Received: value_reduction=True."),
        (
            {"output_projection": False},
            "Without `output_projection` the value must keep all channels: `value_reduction` must be 1. "
            "Received: output_projection=False, value_reduction=2.",
        ),
    ],
)
def test_self_attention_rejects_contradictory_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        SelfAttention(**arguments)
    assert str(error.value) == message


def test_self_attention_rejects_another_shape_once_it_is_built():
    """Pooling would drop the last keys."""
    layer = SelfAttention()
    layer(np.zeros((1, 8, 8, 16), "float32"))
    assert layer(np.zeros((1, 4, 6, 16), "float32")).shape == (1, 4, 6, 16)
    with pytest.raises(ValueError, match=re.escape(f"{UNEVEN}. Received: pool_size=2, input_shape=(1, 9, 9, 16)")):
        layer(np.zeros((1, 9, 9, 16), "float32"))
    with pytest.raises(ValueError, match="`SelfAttention` needs a known height, width"):
        tf.function(layer).get_concrete_function(tf.TensorSpec((1, None, None, 16)))


def test_self_attention_takes_integers_of_numpy(tmp_path):
    inputs = keras.Input((4, 4, 16))
    model = keras.Model(inputs, SelfAttention(key_reduction=np.int64(4), query_block_size=np.array([9]).max())(inputs))
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").layers[-1].key_reduction == 4


def test_self_attention_under_remat_has_the_same_gradients():
    """A recomputation would make further power iterations."""
    x, results = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 4, 16)).astype("float32")), []
    for scope in (contextlib.nullcontext(), keras.RematScope(mode="full")):
        keras.utils.set_random_seed(0)
        with scope:
            layer = SelfAttention()
        layer(x)
        layer.gamma.assign(1.0)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True) ** 3)
        results.append([*tape.gradient(loss, layer.trainable_variables), *layer.non_trainable_variables])
    for plain, under_remat in zip(*results, strict=True):
        np.testing.assert_array_equal(plain, under_remat)
