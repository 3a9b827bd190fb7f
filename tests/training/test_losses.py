"""Adversarial losses against NumPy float64, written from the formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagan_tf.training import losses


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


FORMULAS = {
    "hinge": (lambda r, f: np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean(), lambda f: -f.mean()),
    "non_saturating": (
        lambda r, f: -np.log(sigmoid(r)).mean() - np.log(1 - sigmoid(f)).mean(),
        lambda f: -np.log(sigmoid(f)).mean(),
    ),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda f: -f.mean()),
    "least_squares": (lambda r, f: (((r - 1) ** 2).mean() + (f**2).mean()) / 2, lambda f: ((f - 1) ** 2).mean() / 2),
    "relativistic": (
        lambda r, f: -np.log(sigmoid(r - f)).mean(),
        lambda r, f: -np.log(sigmoid(f - r)).mean(),
    ),
}
LOGIT = st.floats(-8, 8, width=32)


@pytest.mark.parametrize("name", FORMULAS)
@given(pairs=st.lists(st.tuples(LOGIT, LOGIT), min_size=1, max_size=9))
def test_losses_match_numpy_float64(name, pairs):
    real, fake = np.array(pairs).T[..., None]
    discriminator, generator = FORMULAS[name]
    loss = losses.get(name)
    single = [x.astype("float32") for x in (real, fake)]
    assert float(loss.discriminator(*single)) == pytest.approx(discriminator(real, fake), rel=1e-5, abs=1e-5)
    wanted = generator(real, fake) if loss.relativistic else generator(fake)
    assert float(loss.generator_loss(*single)) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_losses_all_have_a_reference_formula():
    assert set(FORMULAS) == set(losses.LOSSES)


def test_losses_get_rejects_unknown_name():
    with pytest.raises(ValueError, match="hinge"):
        losses.get("hinges")


def test_losses_get_accepts_custom_loss():
    own = losses.AdversarialLoss("own", losses.hinge_discriminator_loss, losses.hinge_generator_loss)
    assert losses.get(own) is own
