"""The contract of all Keras layers, one check per function; `CONTRACT` lists them for `pytest.mark.parametrize`.

@pytest.mark.parametrize("check", CONTRACT)
def test_my_layer_meets_contract(check, tmp_path):
    check(Subject(make=lambda dtype: MyLayer(3, dtype=dtype), ...), tmp_path)
"""

import dataclasses
import json
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

# policy -> dtype of the output, dtype of the weights
POLICIES = {
    "float32": ("float32", "float32"),
    "mixed_bfloat16": ("bfloat16", "float32"),
    "mixed_float16": ("float16", "float32"),
    "float64": ("float64", "float64"),
}


@dataclasses.dataclass(frozen=True)
class Subject:
    """A layer under test.

    Args:
        make: Function, dtype policy's name -> new layer.
        inputs: Array, or list of arrays, of batch size 2 or more; floats are float32.
        output_shape: tuple, of the output for `inputs`.
        trainable: int. Number of trainable parameters.
        non_trainable: int. Number of other parameters; all of them must move in a training call.
    """

    make: Callable
    inputs: object
    output_shape: tuple
    trainable: int
    non_trainable: int

    def model(self, dtype="float32"):
        """A functional model of unknown batch size around a new layer."""
        symbols = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), self.inputs)
        return keras.Model(symbols, self.make(dtype)(symbols))

    def tensors(self, rows=slice(None)):
        return keras.tree.map_structure(lambda x: tf.constant(x[rows]), self.inputs)


def values(weights):
    return [np.array(weight) for weight in weights]


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


def as_float64(tensor):
    return np.array(tf.cast(tensor, "float64"))


def config_survives_a_round_trip(subject, tmp_path):
    for dtype in POLICIES:
        layer = subject.make(dtype)
        serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
        twin = keras.saving.deserialize_keras_object(serialized)
        assert type(twin) is type(layer)
        assert keras.saving.serialize_keras_object(twin) == keras.saving.serialize_keras_object(layer)
        shapes = [[weight.shape for weight in (one(subject.tensors()), one)[1].weights] for one in (layer, twin)]
        assert shapes[0] == shapes[1]


def saved_model_computes_the_same(subject, tmp_path):
    model = subject.model()
    model(subject.tensors(), training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(values(loaded.weights), values(model.weights))
    np.testing.assert_array_equal(loaded(subject.tensors()), model(subject.tensors()))
    np.testing.assert_array_equal(loaded(subject.tensors(), training=True), model(subject.tensors(), training=True))


def symbolic_output_is_the_eager_one(subject, tmp_path):
    for dtype in POLICIES:
        model = subject.model(dtype)
        output = model(subject.tensors())
        assert model.output.shape == (None, *subject.output_shape[1:])
        assert tuple(output.shape) == subject.output_shape
        assert keras.backend.standardize_dtype(output.dtype) == model.output.dtype


def batch_size_is_free(subject, tmp_path):
    model = subject.model()
    whole = model(subject.tensors())
    traced = tf.function(
        model, input_signature=[keras.tree.map_structure(lambda s: tf.TensorSpec(s.shape, s.dtype), model.input)]
    )
    for rows in (slice(0, 1), slice(None)):
        np.testing.assert_allclose(model(subject.tensors(rows)), whole[rows], atol=1e-6)
        np.testing.assert_allclose(traced(subject.tensors(rows)), whole[rows], atol=1e-6)


def every_policy_gives_finite_output_of_its_dtype(subject, tmp_path):
    for policy, (compute, variable) in POLICIES.items():
        layer = subject.make(policy)
        for training in (False, True):
            output = layer(subject.tensors(), training=training)
            assert keras.backend.standardize_dtype(output.dtype) == compute
            assert np.isfinite(as_float64(output)).all()
        assert {weight.dtype for weight in layer.weights} == {variable}
        assert all(np.isfinite(weight).all() for weight in values(layer.weights))


def weights_are_counted(subject, tmp_path):
    layer = subject.make("float32")
    layer(subject.tensors())
    assert sum(weight.size for weight in values(layer.trainable_weights)) == subject.trainable
    assert sum(weight.size for weight in values(layer.non_trainable_weights)) == subject.non_trainable
    paths = [weight.path for weight in layer.weights]
    assert len(set(paths)) == len(paths)


def gradient_step_lowers_the_loss(subject, tmp_path):
    layer = subject.make("float64")
    layer(subject.tensors())
    training_call = tf.function(lambda: layer(subject.tensors(), training=True))
    for _ in range(50):
        training_call()  # so that its moving state has converged
    target = np.random.default_rng(0).normal(size=subject.output_shape)
    optimizer = keras.optimizers.SGD(0.1)
    losses = []
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((layer(subject.tensors(), training=True) - target) ** 2)
        gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
        assert all(np.isfinite(gradient).all() for gradient in gradients)  # None, of a weight without gradient, raises
        optimizer.apply(gradients, layer.trainable_weights)
        losses.append(float(loss))
    slope = sum(np.sum(np.square(gradient)) for gradient in gradients)
    assert losses[0] - losses[1] > 0.01 * slope  # 0.1 for a linear loss


def training_call_moves_the_state_and_no_trainable_weight(subject, tmp_path):
    model = subject.model()
    trainable, state = values(model.trainable_weights), values(model.non_trainable_weights)
    model(subject.tensors(), training=True)  # the outer call passes the flag on
    assert_same(values(model.trainable_weights), trainable)
    assert not any(np.array_equal(a, b) for a, b in zip(values(model.non_trainable_weights), state, strict=True))


def inference_call_moves_nothing(subject, tmp_path):
    model = subject.model()
    model(subject.tensors(), training=True)
    before = values(model.weights)
    outputs = [model(subject.tensors(), **arguments) for arguments in ({}, {"training": False})]
    assert_same(values(model.weights), before)
    np.testing.assert_array_equal(*outputs)


def compiled_call_is_the_eager_one(subject, tmp_path):
    for jit_compile in (False, True):
        layer = subject.make("float32")
        layer(subject.tensors())
        start = values(layer.weights)
        eager, eager_state = layer(subject.tensors(), training=True), values(layer.weights)
        layer.set_weights(start)
        compiled = tf.function(lambda x: layer(x, training=True), jit_compile=jit_compile)(subject.tensors())
        np.testing.assert_allclose(compiled, eager, atol=1e-5)
        for a, b in zip(values(layer.weights), eager_state, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


CONTRACT = (
    config_survives_a_round_trip,
    saved_model_computes_the_same,
    symbolic_output_is_the_eager_one,
    batch_size_is_free,
    every_policy_gives_finite_output_of_its_dtype,
    weights_are_counted,
    gradient_step_lowers_the_loss,
    training_call_moves_the_state_and_no_trainable_weight,
    inference_call_moves_nothing,
    compiled_call_is_the_eager_one,
)
