"""A step that XLA compiles changes the networks as one that it does not."""

import functools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from training.float16 import OVERFLOWING, make_images, make_small, scaling_state, state
from training.tiny import fit, make_data, make_gan

from sagan_tf.training.distribution import resolve_jit_compile, xla_obstacle
from sagan_tf.training.losses import LOSSES, AdversarialLoss

AUGMENTATION = ("color", "translation", "cutout")
OPTIONS = {
    "R1": dict(r1_weight=1.0),
    "two updates of the discriminator": dict(d_steps=2),
    "one batch of images for both": dict(share_fake_batch=True),
    "LeCam, consistency and R2": dict(
        lecam_weight=0.01,
        lecam_start_step=1,
        consistency_real_weight=0.01,
        consistency_fake_weight=0.01,
        r2_weight=0.1,
        loss="relativistic",
    ),  # fmt: skip
    "lazy R1, accumulation and augmentation": dict(
        r1_weight=1.0, r1_interval=2, accumulation_steps=2, augmentation=AUGMENTATION
    ),
    "ADA": dict(ada_target=0.6, ada_images=8, accumulation_steps=2),
    **{f"{name} loss": dict(loss=name) for name in LOSSES},
}


def _sum_of_losses(part):
    """The sum of all losses, each with another factor."""
    return lambda *logits: sum(i / 5 * getattr(loss, part)(*logits) for i, loss in enumerate(LOSSES.values(), 1))


# Without a gradient: batch normalization and losses of differences take them away.
UNTRAINED = {"block_32_conv/block_32_conv/bias", "output_dense/output_dense/bias"}
EVERY_LOSS = AdversarialLoss("every", _sum_of_losses("discriminator"), _sum_of_losses("generator_loss"), True)


def assert_compiled_equals_plain(make, data, rtol, atol):
    """Compares the losses, and the change of each weight by its own size, which must be large enough to tell."""
    results = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        gan = make(jit_compile=jit_compile, run_eagerly=not jit_compile)  # tracing it would take longer
        before = [np.float64(weight) for weight in gan.get_weights()]
        history = fit(gan, data)
        changes = [np.float64(weight) - old for weight, old in zip(gan.get_weights(), before)]
        results.append([*changes, *map(np.array, history.values())])
    sizes = [np.linalg.norm(plain) for plain in results[0]]
    errors = [np.linalg.norm(compiled - plain) for plain, compiled in zip(*results, strict=True)]
    names, trained = [weight.path for weight in gan.weights], {id(weight) for weight in gan.trainable_variables}
    unchanged = [w.path for w, size in zip(gan.weights, sizes) if id(w) in trained and size < 1e-4]
    assert set(unchanged) <= UNTRAINED
    table = zip([*names, *history], errors, sizes)
    assert not [row for row in table if row[1] > rtol * row[2] + atol]


@pytest.mark.slow
def test_compiled_step_with_loops_matches_the_step_as_it_is():
    options = dict(d_steps=2, accumulation_steps=2, r1_weight=1.0, r1_interval=2)
    assert_compiled_equals_plain(
        functools.partial(make_small, "float32", loss=EVERY_LOSS, **options), make_images(1), rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
def test_graph_of_the_compiled_step_does_not_grow_with_the_number_of_updates():
    def operations(**options):
        gan = make_small("float32", loss="hinge", jit_compile=True, **options)
        step = tf.function(gan.train_step, jit_compile=True, autograph=False)
        graph = step.get_concrete_function((tf.TensorSpec((24, 4, 4, 3)), None)).graph.as_graph_def()
        return len(graph.node) + sum(len(function.node_def) for function in graph.library.function)

    assert operations(d_steps=2, accumulation_steps=2) == operations(d_steps=3, accumulation_steps=4)


@pytest.mark.stress
@pytest.mark.parametrize("options", [dict(d_steps=2), dict(share_fake_batch=True)])
def test_compiled_step_in_float16_skips_the_same_update(options):
    gans = [make_small(rate=1e-3, loss=OVERFLOWING, jit_compile=value, **options) for value in (False, True)]
    for gan in gans:
        fit(gan, make_images(3, bright=14))
    plain, compiled = gans
    np.testing.assert_array_equal(scaling_state(compiled), scaling_state(plain))
    assert scaling_state(plain)[0, 2] == 1
    for a, b in zip(state(compiled), state(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.stress
@pytest.mark.parametrize("name", OPTIONS)
def test_compiled_step_matches_the_step_as_it_is(name):
    options = dict(OPTIONS[name])
    augmentation = options.pop("augmentation", ())

    def make(**how):
        gan = make_gan(attention_sizes=(16,), augmentation=augmentation, ema_decay=0.5, compile_arguments=options | how)
        for network in (gan.generator, gan.discriminator):
            network.get_layer("attention_16").gamma.assign(0.7)  # at 0 its kernels have no gradient
        return gan

    assert_compiled_equals_plain(make, make_data(8, 3), rtol=1e-3, atol=1e-5)


def test_jit_compile_is_on_for_a_gpu_by_itself(monkeypatch):
    assert not make_small("float32").jit_compile
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"])
    gan = make_small("float32", loss="hinge")
    assert gan.jit_compile and gan.get_compile_config()["jit_compile"] == "auto"
    assert not make_small("float32", jit_compile=False).jit_compile
    assert not make_small("float32", run_eagerly=True).jit_compile


@pytest.mark.parametrize("gpus, replicas, is_global, lecam, ada, wanted", [
    (0, 1, True, 0.0, 0.0, False),
    (1, 1, True, 0.3, 0.6, True),
    (2, 2, True, 0.0, 0.0, False),
    (2, 2, False, 0.0, 0.0, True),
    (2, 2, False, 0.3, 0.0, False),
    (2, 2, False, 0.0, 0.6, False),
    (0, 2, False, 0.0, 0.0, False),
])  # fmt: skip
def test_jit_compile_auto_is_on_where_there_are_gpus_and_no_obstacle(
    monkeypatch, gpus, replicas, is_global, lecam, ada, wanted
):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"] * gpus)
    strategy = types.SimpleNamespace(num_replicas_in_sync=replicas)
    obstacle = xla_obstacle(strategy, is_global, lecam, ada)
    assert resolve_jit_compile("auto", obstacle) is wanted
    assert resolve_jit_compile(False, obstacle) is False
    if obstacle is None:
        assert resolve_jit_compile(True, obstacle)
    else:
        with pytest.raises(
            ValueError, match="batch_statistics global" if is_global else "lecam_weight 0.3|ada_target 0.6"
        ):
            resolve_jit_compile(True, obstacle)


def test_jit_compile_refuses_another_choice():
    with pytest.raises(ValueError, match="`jit_compile` must be True, False or 'auto'. Received: jit_compile='on'"):
        make_small("float32", jit_compile="on")
