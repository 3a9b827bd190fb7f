"""The sum of a residual block equals an addition, and TensorFlow can optimize its graph."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from sagan_tf.layers import ResidualSum


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_residual_sum_equals_an_addition(tmp_path):
    one, other = noise(2, 3, 5, 4), noise(2, 3, 5, 4, seed=1)
    np.testing.assert_array_equal(ResidualSum()([one, other]), one + other)
    inputs = [keras.Input((3, 5, 4)), keras.Input((3, 5, 4))]
    model = keras.Model(inputs, ResidualSum(dtype="mixed_bfloat16")(inputs))
    assert model.output.shape == (None, 3, 5, 4) and model.output.dtype == "bfloat16"
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded([one, other]), model([one, other]))


def test_residual_sum_takes_maps_of_unknown_size():
    add = tf.function(ResidualSum(), input_signature=[[tf.TensorSpec((None, None, None, 4))] * 2])
    one, other = noise(2, 3, 5, 4), noise(2, 3, 5, 4, seed=1)
    np.testing.assert_array_equal(add([one, other]), one + other)


@pytest.mark.parametrize("others", [[(2, 4, 4, 2)], [(2, 1, 1, 3)], [(2, 1, 4, 3)], [(2, 4, 4, 3), (2, 4, 4, 3)]])
def test_residual_sum_rejects_maps_of_different_shapes(others):
    with pytest.raises(ValueError, match="shape"):
        ResidualSum()([noise(2, 4, 4, 3), *(noise(*shape) for shape in others)])


@pytest.mark.slow
def test_residual_sum_graph_is_optimized_by_tensorflow():
    script = """
        import sys
        import numpy as np, tensorflow as tf
        from sagan_tf.networks import build_discriminator
        network = build_discriminator(image_size=32, channels=8, num_classes=None, attention_sizes=(),
                                      dtype="mixed_bfloat16")
        @tf.function
        def gradient(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(network(x, training=True))
            return tape.gradient(loss, x)
        print(gradient(tf.ones((4, 32, 32, 3))).shape)
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}  # the Makefile's 3 hides the error
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "(4, 32, 32, 3)" in done.stdout and "remapper failed" not in done.stderr
