"""TF-GAN's evaluation functions on features and logits against ours."""

import numpy as np
import pytest
from scipy.special import softmax

from parity import recipe
from parity.goldens import golden
from sagan_tf.evaluation import frechet_distance, inception_score, kernel_distance


@pytest.mark.parametrize("covariance, name", [("full", ""), ("diagonal", "_diagonal"), ("none", "_mean_only")])
def test_frechet_distances(covariance, name):
    data = recipe.activations()
    got = frechet_distance(data["first"], data["second"], covariance)
    assert got == pytest.approx(float(golden("tf_gan_evaluation")[f"frechet{name}"]), rel=1e-9)


def test_kernel_distance_and_its_blocks():
    data, want = recipe.activations(), golden("tf_gan_evaluation")
    distance, error = kernel_distance(data["first"], data["second"], block_size=90)
    assert (distance, error) == pytest.approx((float(want["kernel"]), float(want["kernel_error"])), rel=1e-9)
    distance, error = kernel_distance(data["first"][:200], data["second"][:200])
    assert distance == pytest.approx(float(want["kernel_one_block"]), rel=1e-9) and np.isnan(error)


def test_inception_score_is_the_classifier_score():
    probabilities = softmax(recipe.activations()["class_logits"], axis=1)
    want = float(golden("tf_gan_evaluation")["classifier_score"])
    assert inception_score(probabilities, splits=1)[0] == pytest.approx(want, rel=1e-9)
