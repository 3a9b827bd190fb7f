"""Keras internals that sagan_tf relies on. If one fails after an update of Keras, fix `keras_compat.py`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from sagan_tf.layers.keras_compat import (
    BuiltModel,
    PreparedAdam,
    RecordingScope,
    adam_slots,
    all_trainable,
    child_layers,
    custom_gradient,
    dequantize,
    owner_of,
    set_trainable,
)


def test_child_layers_returns_only_direct_children():
    # Otherwise `spectral_normalizations` misses layers or finds them twice, and no u is averaged or logged.
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="deep")], name="inner")
    model = keras.Sequential([keras.Input((3,)), inner, keras.layers.Dense(1, name="last")])
    assert [layer.name for layer in child_layers(model) if layer.weights] == ["inner", "last"]


def test_owner_of_finds_the_innermost_layer():
    # Otherwise spectral normalization takes the axes of a wrapped layer's kernel from the layer around it.
    inner = keras.layers.Conv2D(3, 1)
    layer = keras.layers.TimeDistributed(inner)
    layer.build((None, 2, 4, 4, 1))
    assert owner_of(inner.kernel, layer) is inner and owner_of(inner.kernel, inner) is inner


def test_recording_scope_sees_state_that_no_layer_lists():
    # Otherwise a spectrally normalized stateful LSTM forgets its state.
    layer = keras.layers.LSTM(2, stateful=True)
    layer.build((1, 3, 2))
    with RecordingScope([(v, ops.convert_to_tensor(v)) for v in layer.variables]) as scope:
        layer(ops.ones((1, 3, 2)))
    listed = {id(variable) for variable in layer.variables}
    assert [variable for variable, _ in scope.updates.values() if id(variable) not in listed]


def test_recording_scope_gives_a_replaced_value_as_it_is():
    # Otherwise a spectrally normalized layer computes with its raw kernel, or casts the kernel twice.
    variable = keras.Variable(np.zeros(2, "float32"))
    with RecordingScope([(variable, ops.ones(2))]) as scope:
        scope.replace(variable, ops.cast([2, 3], "bfloat16"))
        assert variable.value.dtype == "bfloat16"
        np.testing.assert_array_equal(ops.cast(variable.value, "float32"), [2, 3])
    np.testing.assert_array_equal(variable.value, [0, 0])


def test_adam_slots_are_the_moments_of_the_variable():
    # Otherwise `FusedAdam` moves the moments of another weight.
    optimizer = keras.optimizers.Adam(1.0, beta_1=0.5, beta_2=0.75)
    variables = [keras.Variable(np.zeros(2)), keras.Variable(np.zeros(3))]
    optimizer.build(variables)
    optimizer.apply([ops.ones(2), 2 * ops.ones(3)], variables)
    momentum, velocity = adam_slots(optimizer, variables[1])
    np.testing.assert_allclose(momentum, [1, 1, 1])  # (1 - 0.5) 2
    np.testing.assert_allclose(velocity, [1, 1, 1])  # (1 - 0.75) 2^2


def test_custom_gradient_replaces_the_derived_one_and_has_a_derivative():
    # Otherwise every written-out gradient of the layers is wrong.
    square = custom_gradient(lambda x: (x**2, lambda upstream: upstream * 10 * x))
    x = tf.constant(3.0)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = square(x)
        first = inner.gradient(y, x)
    assert float(y) == 9 and float(first) == 30 and float(outer.gradient(first, x)) == 10


def test_built_model_fit_does_not_call_it_on_symbolic_inputs():
    # Otherwise `SAGAN.fit` calls the averaged generator on pairs of images and labels.
    class Model(BuiltModel):
        def call(self, inputs):
            raise AssertionError("called")

        def train_step(self, data):
            return {"value": tf.constant(1.0)}

    model, data = Model(), tf.data.Dataset.from_tensors(np.ones((1, 2)))
    model.compile()
    with pytest.raises(ValueError, match="must be built before `fit`"):
        model.fit(data, verbose=0, shuffle=False)
    model.built = True
    assert model.fit(data, verbose=0, shuffle=False).history["value"] == [1.0]


def test_prepared_adam_prepares_once_for_all_weights():
    # Otherwise the bias corrections of `FusedAdam` are computed for each weight, or for none.
    calls = []

    class Counting(PreparedAdam):
        def prepare(self, learning_rate, variables):
            calls.append(len(variables))
            return super().prepare(2 * learning_rate, variables)

    weights = [keras.Variable(np.ones(size, "float32")) for size in (2, 3)]
    optimizer = Counting(0.1)
    optimizer.build(weights)
    optimizer.apply([np.ones(size, "float32") for size in (2, 3)], weights)
    assert calls == [2]
    for weight in weights:
        np.testing.assert_allclose(weight, 0.8, rtol=1e-5)  # the first step of Adam has the size of its rate


@pytest.mark.parametrize("kind", ["dense", "einsum", "embedding"])
def test_dequantize_gives_the_kernel_that_was_quantized(kind):
    # Otherwise spectral normalization takes another sigma after `quantize`: Keras stores W times a scale.
    layer = {
        "dense": keras.layers.Dense(5),
        "einsum": keras.layers.EinsumDense("abc,cd->abd", output_shape=(None, 5)),
        "embedding": keras.layers.Embedding(7, 5),
    }[kind]
    layer(ops.zeros({"dense": (2, 4), "einsum": (2, 3, 4), "embedding": (2,)}[kind]))
    name = "embeddings" if kind == "embedding" else "kernel"
    before = ops.convert_to_numpy(getattr(layer, name))
    layer.quantize("int8")
    after, scale = dequantize(layer, next(weight for weight in layer.weights if weight.name == name))
    assert np.abs(before).max() > 0 and str(getattr(scale, "dtype", "")).startswith("float")
    np.testing.assert_allclose(after, before, atol=np.abs(before).max() / 127)


def test_set_trainable_reaches_layers_that_differ_from_their_model():
    # Keras passes `trainable` on only where it changes. Otherwise a layer that was frozen stays so in the averaged
    # generator, and a frozen block trains on.
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(2)])
    outer = keras.Sequential([keras.Input((2,)), inner])
    inner.layers[0].trainable = False
    outer.trainable = True
    assert not inner.layers[0].trainable  # what Keras does
    set_trainable(outer, True)
    assert all(part.trainable for part in (outer, inner, *inner.layers))
    set_trainable(outer, False)
    assert not any(part.trainable for part in (outer, inner, *inner.layers))


def test_all_trainable_restores_every_layer_of_its_own():
    # Otherwise standing statistics leave out frozen batch normalization, or unfreeze the blocks of a run.
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(2)])
    model.layers[0].trainable = False
    with pytest.raises(KeyError), all_trainable(model):
        assert [layer.trainable for layer in model.layers] == [True, True]
        raise KeyError
    assert [layer.trainable for layer in model.layers] == [False, True] and model.trainable
