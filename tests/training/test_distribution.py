"""Choice of devices, steps of `fit`, and gradients with a scaled loss."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from training.tiny import prefetch_to_last_cpu

from sagan_tf.errors import UserError
from sagan_tf.training.distributed_model import DistributedModel
from sagan_tf.training.distribution import (
    check_clipping,
    make_strategy,
    prefetch_to_device,
    resolve_jit_compile,
    xla_obstacle,
)
from sagan_tf.training.loss_scale import DynamicLossScaleOptimizer


def test_make_strategy_returns_default_for_one_device():
    assert make_strategy("single").num_replicas_in_sync == 1
    assert make_strategy("auto").num_replicas_in_sync == 1


def test_make_strategy_rejects_replicas_after_tensorflow_has_started():
    tf.constant(0)
    with pytest.raises(UserError, match="new process"):
        make_strategy("mirrored", 3)


def test_make_strategy_rejects_a_missing_tpu():
    with pytest.raises(UserError, match="finds no TPU on this machine"):
        make_strategy("tpu")


def test_only_a_gpu_without_a_strategy_of_its_own_gets_batches_copied_ahead():
    dataset = tf.data.Dataset.range(3)
    assert prefetch_to_device(dataset, make_strategy("single")) is dataset
    assert prefetch_to_last_cpu(dataset, tf.distribute.MirroredStrategy(["CPU:0"])) is dataset
    assert prefetch_to_last_cpu(dataset, make_strategy("single")) is not dataset


def make_counter(base):
    class Counter(base):
        """Counts its steps."""

        def __init__(self):
            super().__init__()
            self.count = self.add_weight(shape=(), initializer="zeros", name="count")
            self.built = True

        def call(self, x):
            return x

        def train_step(self, data):
            self.count.assign_add(1.0 + 0.0 * tf.reduce_sum(tf.nest.flatten(data)[0]))
            return {"loss": self.count + 0.0}

    return Counter()


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("base", [DistributedModel, keras.Model])
def test_fit_makes_nine_steps_in_three_epochs_of_20_images_by_8(base, steps):
    model = make_counter(base)
    model.compile("sgd", "mse", steps_per_execution=steps)
    history = model.fit(np.zeros((20, 1)), np.zeros((20, 1)), batch_size=8, epochs=3, verbose=0).history
    assert float(model.count) == 9 and len(history["loss"]) == 3


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("steps", [1, 2])
def test_fit_makes_one_step_per_batch_of_a_data_set_of_unknown_length(steps):
    spec = tf.TensorSpec((8, 1))
    dataset = tf.data.Dataset.from_generator(lambda: iter(np.zeros((3, 8, 1), "float32")), output_signature=spec)
    model = make_counter(DistributedModel)
    model.compile("sgd", "mse", steps_per_execution=steps)
    model.fit(dataset, epochs=3, shuffle=False, verbose=0)
    assert float(model.count) == 9


@pytest.mark.parametrize("distribution", ["auto", "mirrored", "single"])
def test_one_replica_has_no_strategy_which_xla_could_not_compile(distribution):
    assert make_strategy(distribution, 1) is tf.distribute.get_strategy()
    obstacle = xla_obstacle(tf.distribute.MirroredStrategy(["CPU:0"]), has_global_statistics=False)
    assert "mirrored strategy of one replica" in obstacle and resolve_jit_compile("auto", obstacle) is False


@pytest.mark.parametrize("name", ["clipnorm", "global_clipnorm", "clipvalue"])
@pytest.mark.parametrize("wrap", [lambda optimizer: optimizer, DynamicLossScaleOptimizer])
def test_clipping_is_refused_on_several_replicas_alone(name, wrap):
    """Keras clips before it sums over replicas."""
    optimizers = keras.optimizers.Adam(), wrap(keras.optimizers.SGD(**{name: 0.5}))
    check_clipping(SimpleNamespace(num_replicas_in_sync=1), *optimizers)
    with pytest.raises(ValueError, match=f"each would clip its own share. Received: {name}=0.5"):
        check_clipping(SimpleNamespace(num_replicas_in_sync=2), *optimizers)
