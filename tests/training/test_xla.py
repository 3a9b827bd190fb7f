"""A step that XLA compiles changes the networks as one that it does not."""

import keras
import numpy as np
import pytest
from training.tiny import fit, make_data, make_gan

from sagan_tf.training.losses import LOSSES

OPTIONS = {
    "lazy R1, accumulation and augmentation": dict(r1_weight=1.0, r1_interval=2, accumulation_steps=2),
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
    **{f"{name} loss": dict(loss=name) for name in LOSSES},
}


@pytest.mark.stress
@pytest.mark.parametrize("name", OPTIONS)
def test_compiled_step_matches_the_step_as_it_is(name):
    results = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        augmentation = ("color", "translation", "cutout") if "augmentation" in name else ()
        gan = make_gan(compile_arguments=dict(**OPTIONS[name], jit_compile=jit_compile), augmentation=augmentation)
        before = [np.float64(weight) for weight in gan.get_weights()]
        history = fit(gan, make_data(8, 3))
        changes = [np.float64(weight) - old for weight, old in zip(gan.get_weights(), before)]
        results.append([*changes, *history.values()])
    for compiled, plain in zip(*results[::-1], strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-3, atol=1e-5)
