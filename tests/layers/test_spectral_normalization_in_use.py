"""SpectralNormalization in models: state, saving, folding, and other features of wrapped layers."""

import contextlib
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from layer_contract import assert_same, values
from layers.spectral_oracle import CASES, as_matrix, normalized, power_iteration, relative_error

from sagan_tf.layers import (
    SelfAttention,
    SpectralNormalization,
    spectral_normalizations,
)


def noise(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def iterated(layer, calls):
    """The u of a wrapped Dense after a number of power iterations, by NumPy."""
    return power_iteration(as_matrix(layer.layer.kernel.numpy(), (1,)), layer.u.numpy(), calls)[1]


# Kinds of training call: (layer, x) -> function of no arguments.
CALLS = {
    "eager": lambda layer, x: lambda: layer(x, training=True),
    "function": lambda layer, x: tf.function(lambda: layer(x, training=True)),
    "xla": lambda layer, x: tf.function(lambda: layer(x, training=True), jit_compile=True),
    "update_u": lambda layer, x: layer.update_u,
    "update_u in a function": lambda layer, x: tf.function(layer.update_u),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_spectral_normalization_training_call_moves_only_u_and_once(call):
    layer, x = SpectralNormalization(layers.Dense(6)), noise(3, 5)
    layer(x)
    kernel, want = layer.layer.kernel.numpy(), [iterated(layer, calls) for calls in (1, 2, 3)]
    step = call(layer, x)
    for u in want:
        step()
        assert relative_error(layer.u, u) < 1e-5
    np.testing.assert_array_equal(layer.layer.kernel, kernel)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 2}])
def test_spectral_normalization_fit_moves_u_once_per_step(arguments):
    model = keras.Sequential([keras.Input((5,)), SpectralNormalization(layers.Dense(6))])
    layer, kernel = model.layers[0], model.layers[0].layer.kernel.numpy()
    want = iterated(layer, 4)
    model.compile(keras.optimizers.SGD(0.0), "mse", **arguments)
    model.fit(noise(8, 5), noise(8, 6), batch_size=2, verbose=0)
    assert relative_error(layer.u, want) < 1e-5
    np.testing.assert_array_equal(layer.layer.kernel, kernel)
    before = layer.u.numpy()
    model.evaluate(noise(8, 5), noise(8, 6), verbose=0)
    model.predict(noise(8, 5), verbose=0)
    np.testing.assert_array_equal(layer.u, before)


@pytest.mark.slow
def test_spectral_normalization_fit_with_xla_learns_a_bounded_map():
    model = keras.Sequential([keras.Input((3,)), SpectralNormalization(layers.Dense(3))])
    model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=True)
    x = noise(64, 3)
    losses = model.fit(x, x[:, ::-1], epochs=50, verbose=0).history["loss"]
    assert losses[-1] < 1e-2 * losses[0]  # an orthogonal map, which a normalized kernel can represent


@pytest.mark.parametrize("name", CASES)
def test_spectral_normalization_training_output_equals_inference(name):
    layer, x = SpectralNormalization(CASES[name].make()), CASES[name].inputs()
    layer(x, training=True)
    inference = layer(x)
    np.testing.assert_array_equal(layer(x, training=True), inference)
    assert not np.array_equal(layer(x, training=True), inference)  # u has changed


@pytest.mark.parametrize("name", CASES)
def test_spectral_normalization_fold_returns_plain_copy(name):
    layer, x = SpectralNormalization(CASES[name].make()), CASES[name].inputs()
    layer(x, training=True)
    plain, output = layer.fold(), layer(x)
    assert type(plain) is type(layer.layer)
    assert plain.name == layer.layer.name
    np.testing.assert_array_equal(plain(x), output)
    before = values(layer.weights)
    for weight in plain.weights:
        weight.assign(weight + 1.0)
    assert_same(values(layer.weights), before)
    np.testing.assert_array_equal(layer(x), output)


def small_model():
    inputs = keras.Input((8, 8, 3))
    x = SpectralNormalization(layers.Conv2D(16, 3, dtype="mixed_bfloat16"), name="first")(inputs)
    x = layers.Flatten()(layers.ReLU()(x))
    return keras.Model(inputs, SpectralNormalization(layers.Dense(2), power_iterations=2, name="last")(x))


def test_spectral_normalization_loaded_model_folds_to_plain_keras(tmp_path):
    model, x = small_model(), noise(2, 8, 8, 3)
    model(x, training=True)
    model.save(tmp_path / "model.keras")

    def fold(layer):
        plain = isinstance(layer, SpectralNormalization)
        return layer.fold() if plain else type(layer).from_config(layer.get_config())

    loaded = keras.models.load_model(tmp_path / "model.keras")
    folded = keras.models.clone_model(loaded, clone_function=fold)
    assert not spectral_normalizations(folded)
    assert len(folded.weights) == 4
    np.testing.assert_array_equal(folded(x), model(x))


def test_spectral_normalization_saved_file_holds_every_weight_once(tmp_path):
    model = small_model()
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive, archive.open("model.weights.h5") as file:
        sizes = []
        h5py.File(file).visititems(lambda _, item: sizes.append(getattr(item, "size", 0)))
    assert sum(sizes) == sum(weight.size for weight in values(model.weights))


def test_spectral_normalization_kernel_is_frozen_with_wrapped_layer():
    layer = SpectralNormalization(layers.Dense(2))
    layer(noise(2, 3))
    assert len(layer.trainable_weights) == 2
    layer.layer.trainable = False
    assert layer.trainable_weights == []


def test_spectral_normalization_regularizes_raw_kernel_and_output_once():
    layer = SpectralNormalization(
        layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.5), activity_regularizer=keras.regularizers.L1(0.25))
    )
    model, x = keras.Sequential([keras.Input((4,)), layer]), noise(2, 4)
    for _ in range(2):
        output = model(x, training=True)
    # Keras takes the mean of activity losses over the batch of 2.
    want = [0.25 * np.abs(output).sum() / 2, 0.5 * np.square(layer.layer.kernel).sum()]
    np.testing.assert_allclose(sorted(map(float, model.losses)), sorted(want), rtol=1e-5)
    model.compile("sgd", "mse")
    output = model(x)
    want = np.square(output - 1).mean() + 0.25 * np.abs(output).sum() / 2 + want[1]
    assert model.evaluate(x, np.ones((2, 3)), verbose=0) == pytest.approx(float(want), rel=1e-5)


def test_spectral_normalization_passes_on_mask_of_an_embedding():
    embedding = SpectralNormalization(layers.Embedding(9, 4, mask_zero=True))
    model = keras.Sequential([keras.Input((None,), dtype="int32"), embedding, SpectralNormalization(layers.LSTM(3))])
    tokens = np.array([[5, 3, 0, 0]], "int32")
    np.testing.assert_allclose(model(tokens), model(tokens[:, :2]), atol=1e-6)
    np.testing.assert_array_equal(embedding.compute_mask(tokens), tokens != 0)
    plain = keras.Sequential([layers.Embedding.from_config({**embedding.layer.get_config(), "mask_zero": False})])
    plain.build((1, 4))
    plain.set_weights(embedding.fold().get_weights())
    lstm = model.layers[1]
    assert not np.allclose(lstm(plain(tokens)), model(tokens), atol=1e-3)  # without a mask padding counts


@pytest.mark.parametrize("compiled", [False, True])
def test_spectral_normalization_draws_same_dropout_as_plain_layer(compiled):
    layer, x = SpectralNormalization(layers.LSTM(3, dropout=0.5, seed=7)), noise(2, 5, 4)
    layer(x)
    update = tf.function(layer.update_u)
    for _ in range(300):
        update()  # W / sigma is constant from here on
    plain = layer.fold()
    plain(x)  # Keras' LSTM draws in every call, as `layer` above, and applies dropout in training calls
    calls = [tf.function(one) if compiled else one for one in (layer, plain)]
    (first, want_first), (second, want_second) = ([call(x, training=True) for call in calls] for _ in range(2))
    np.testing.assert_allclose(first, want_first, atol=1e-5)
    np.testing.assert_allclose(second, want_second, atol=1e-5)
    assert not np.allclose(first, second, atol=1e-3)


def test_spectral_normalization_keeps_state_of_wrapped_layer():
    layer, x = SpectralNormalization(layers.LSTM(3, stateful=True)), noise(2, 5, 4)
    layer(x)
    layer.layer.reset_state()
    plain = layer.fold()
    first, second = (np.array(layer(x)) for _ in range(2))
    assert not np.allclose(first, second, atol=1e-3)
    np.testing.assert_allclose(first, plain(x), atol=1e-6)
    np.testing.assert_allclose(second, plain(x), atol=1e-6)


def test_spectral_normalization_returns_every_output_of_wrapped_layer():
    layer = SpectralNormalization(layers.LSTM(3, return_sequences=True, return_state=True))
    assert [tuple(x.shape) for x in layer(keras.Input((5, 4)))] == [(None, 5, 3), (None, 3), (None, 3)]
    assert [tuple(x.shape) for x in layer(noise(2, 5, 4))] == [(2, 5, 3), (2, 3), (2, 3)]


def test_spectral_normalization_supports_gradient_penalty():
    layer, x = SpectralNormalization(layers.Dense(1, use_bias=False)), tf.constant(noise(2, 3))
    layer(x)
    kernel, u = layer.layer.kernel.numpy(), layer.u.numpy()
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(x)
            output = tf.tanh(layer(x))
        penalty = tf.reduce_sum(inner.gradient(output, x) ** 2)
    gradient = outer.gradient(penalty, layer.layer.kernel.value).numpy()

    def loss(kernel):
        w = normalized(kernel, u, (1,))
        slope = 1 - np.tanh(x.numpy() @ w) ** 2
        return np.sum((slope * w.T) ** 2)

    # One output: u is a sign, so sigma is the kernel's length and the finite difference is of the same function.
    for i in range(3):
        step = 1e-6 * np.eye(3)[:, [i]]
        assert gradient[i, 0] == pytest.approx((loss(kernel + step) - loss(kernel - step)) / 2e-6, abs=1e-4)


def test_spectral_normalizations_finds_all_layers_by_path():
    inner_inputs = keras.Input((8, 8, 16))
    x = SelfAttention(name="attention")(inner_inputs)
    inner = keras.Model(inner_inputs, SpectralNormalization(layers.Conv2D(2, 1), name="narrow")(x), name="inner")
    inputs = keras.Input((8, 8, 16))
    x = keras.Sequential([inner, layers.Flatten()], name="body")(inputs)
    model = keras.Model(inputs, SpectralNormalization(layers.Dense(2), name="last")(x))
    found = spectral_normalizations(model)
    attention = [f"body/inner/attention/{part}" for part in ("query", "key", "value", "projection")]
    assert list(found) == [*attention, "body/inner/narrow", "last"]
    assert found["last"] is model.layers[-1]
    assert spectral_normalizations(keras.Sequential([layers.Dense(2)])) == {}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"power_iterations": 0}, "`power_iterations` must be an integer >= 1. Received: power_iterations=0."),
        ({"power_iterations": 1.5}, "`power_iterations` must be an integer >= 1. Received: power_iterations=1.5."),
        ({"power_iterations": True}, "`power_iterations` must be an integer >= 1. Received: power_iterations=True."),
        ({"epsilon": 0}, "`epsilon` must be > 0. Received: epsilon=0."),
        ({"dtype": "float16"}, "`dtype` is that of the wrapped layer: set it there. Received: {'dtype': 'float16'}."),
        ({"epsilon": float("nan")}, "`epsilon` must be > 0. Received: epsilon=nan."),
    ],
)
def test_spectral_normalization_rejects_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError) as error:
        SpectralNormalization(layers.Dense(3), **arguments)
    assert str(error.value) == message


def test_spectral_normalization_rejects_a_layer_without_a_kernel():
    with pytest.raises(ValueError) as error:
        SpectralNormalization(layers.PReLU(name="slope")).build((2, 3))
    assert str(error.value) == (
        "`SpectralNormalization` needs a layer with a kernel or embeddings. "
        "Received: layer=slope (PReLU) with weights ['alpha']."
    )


@pytest.mark.parametrize("method", ["fold", "sigma"])
def test_spectral_normalization_methods_need_a_built_layer(method):
    with pytest.raises(ValueError) as error:
        getattr(SpectralNormalization(layers.Dense(3), name="early"), method)()
    assert str(error.value) == f"`{method}` needs a built layer. Received: early, never called."


QUANTIZABLE = {
    "dense": (lambda: layers.Dense(8), noise(64, 16)),
    "einsum": (lambda: layers.EinsumDense("ab,bcd->acd", (4, 5)), noise(64, 16)),
    "embedding": (lambda: layers.Embedding(7, 5), np.arange(64) % 7),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Keras names every layer that it does not quantize.
@pytest.mark.parametrize("mode", ["int8", "float8"])
@pytest.mark.parametrize("make, x", QUANTIZABLE.values(), ids=QUANTIZABLE)
def test_spectral_normalization_quantized_output_is_close_to_float(make, x, mode, tmp_path):
    layer = SpectralNormalization(make())
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype), layer])
    for _ in range(20):
        model(x, training=True)
    want = model.predict(x, verbose=0)
    model.quantize(mode)
    got = model.predict(x, verbose=0)
    # 8 bits: 0.7 % in int8, 4 % in float8, as of the wrapped layers alone.
    assert relative_error(got, want) < {"int8": 0.01, "float8": 0.06}[mode]
    np.testing.assert_allclose(layer.fold()(x), got, atol=1e-6)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras").predict(x, verbose=0), got)


def test_spectral_normalization_rejects_a_layer_quantized_to_int4():
    layer = SpectralNormalization(layers.Dense(8))
    layer.build((None, 16))
    layer.layer.quantize("int4")
    with pytest.raises(ValueError, match="int8 or float8"):
        layer(noise(2, 16))


def test_spectral_normalization_rejects_lora():
    """Its product would be added to W / sigma, so that the sum is not normalized."""
    layer = SpectralNormalization(layers.Dense(6))
    layer(noise(3, 5))
    layer.layer.enable_lora(2)
    with pytest.raises(ValueError, match="does not support LoRA"):
        layer(noise(3, 5))


@pytest.mark.parametrize(
    "make", [lambda: layers.Dense(6), lambda: keras.Sequential([layers.Dense(6), layers.Dense(2)])]
)
def test_spectral_normalization_under_remat_has_the_same_gradients(make):
    """A recomputation would read the raw kernel, whose gradient would be 0."""
    x, results = tf.constant(noise(3, 5)), []
    for scope in (contextlib.nullcontext(), keras.RematScope(mode="full")):
        keras.utils.set_random_seed(0)
        with scope:
            layer = SpectralNormalization(make())
        layer(x)
        kernels = [weight.value for weight in layer.trainable_weights]
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) ** 3)
        results.append([*tape.gradient(loss, [x, *kernels]), layer.u])
    for plain, under_remat in zip(*results, strict=True):
        np.testing.assert_array_equal(plain, under_remat)


def test_spectral_normalization_folds_a_layer_that_was_built_before():
    dense = layers.Dense(6)
    dense.build((None, 5))
    layer = SpectralNormalization(dense)
    layer.build()
    np.testing.assert_allclose(layer.fold()(noise(3, 5)), layer(noise(3, 5)), rtol=1e-5, atol=1e-6)


class Twice(layers.Layer):
    """Two layers of one name, which Keras allows outside of functional models, and one of them twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (SpectralNormalization(layers.Dense(5), name="dense") for _ in range(2))
        self.again = self.first

    def call(self, inputs):
        return self.again(self.second(self.first(inputs)))


def test_spectral_normalizations_finds_layers_of_one_name():
    block = Twice()
    block(noise(3, 5))
    assert spectral_normalizations(block) == {"dense": block.first, "dense_1": block.second}
