"""The lines that `Metrics` writes, from a model that only counts."""

import itertools
import types

import pytest
import tensorflow as tf

from sagan_tf.training import metrics
from sagan_tf.training.metrics import Metrics


@pytest.mark.parametrize("steps_per_execution", [1, 2, 4])
def test_images_per_second_leaves_out_the_call_that_traces(monkeypatch, steps_per_execution):
    seconds = itertools.count()
    monkeypatch.setattr(metrics, "time", types.SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(metrics, "_state_reader", lambda gan: dict)
    lines = []
    log = types.SimpleNamespace(append=lines.append, read_unfinished=lambda: None)
    callback = Metrics(log, 8, 10, types.SimpleNamespace(check=lambda *_: {}))
    callback.set_model(types.SimpleNamespace(step=tf.Variable(96), reset_metrics=lambda: None))
    callback.on_train_begin()
    now = 0.0
    for call in range(24 // steps_per_execution):
        first = call * steps_per_execution
        callback.on_train_batch_begin(first)
        now += 60.0 if next(seconds) == 0 else 0.5 * steps_per_execution
        callback.on_train_batch_end(first + steps_per_execution - 1, {"d_loss": 1.0})  # as Keras counts
    assert [line["images_per_second"] for line in lines] == [20.0, 20.0, 20.0]
