"""Weights set by name: all of them or none."""

import keras
import numpy as np
import pytest
from keras import layers

from sagan_tf.errors import UserError
from sagan_tf.layers import SpectralNormalization
from sagan_tf.networks.named_weights import set_weights, weights_by_name


def test_set_weights_names_bad_tensors_and_changes_nothing():
    inputs = keras.Input((3,))
    network = keras.Model(inputs, SpectralNormalization(layers.Dense(2, name="a"), name="a")(inputs))
    before = {name: weight.numpy() for name, weight in weights_by_name(network).items()}
    assert before.keys() == {"a/kernel", "a/bias", "a/u"}
    others = {name: value + 1 for name, value in before.items()}
    kernel, bias = others["a/kernel"], others["a/bias"]
    for values, message in (
        ({"a/kernel": kernel}, "1 missing: a/bias"),
        ({"a/quernel": kernel, "a/bias": bias}, "1 missing: a/kernel; 1 unexpected: a/quernel"),
        ({**others, "a/bias": np.zeros(3)}, r"1 of the wrong shape: a/bias is \(3,\), expected \(2,\)"),
        ({**others, "a/kernel": kernel * np.inf}, "1 not finite: a/kernel"),
    ):
        with pytest.raises(UserError, match=f"^a file: does not fit the .*: {message}"):
            set_weights(network, values, "a file")
        for name, weight in weights_by_name(network).items():
            np.testing.assert_array_equal(weight.numpy(), before[name])
    set_weights(network, {"a/kernel": kernel, "a/bias": bias}, "a file")
    largest = np.linalg.svd(kernel)[2][0]
    assert abs(largest @ weights_by_name(network)["a/u"].numpy()) == pytest.approx(1, abs=1e-5)  # found by iterations
