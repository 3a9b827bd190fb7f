"""Compares metrics with TF-GAN's on the same features and logits."""

import numpy as np
import pytest
from scipy.special import softmax

from parity import recipe
from parity.goldens import golden
from sagan_tf.evaluation import frechet_distance, inception_score, kernel_distance

TF_GAN = "TF-GAN 2.1.0"


@pytest.mark.parametrize("covariance, name", [("full", ""), ("diagonal", "_diagonal"), ("none", "_mean_only")])
def test_frechet_distance_matches_tf_gan(covariance, name, agrees):
    data = recipe.activations()
    actual = frechet_distance(data["first"], data["second"], covariance)
    agrees(TF_GAN, "Fréchet distances", actual, golden("tf_gan_evaluation")[f"frechet{name}"], 1e-9)


def test_kernel_distance_matches_tf_gan_in_blocks(agrees):
    data, expected = recipe.activations(), golden("tf_gan_evaluation")
    distance, error = kernel_distance(data["first"], data["second"], block_size=90, seed=None)
    expected_kernel = [expected["kernel"], expected["kernel_error"]]
    agrees(TF_GAN, "kernel distance, its error", [distance, error], expected_kernel, 1e-9)
    distance, error = kernel_distance(data["first"][:200], data["second"][:200])
    agrees(TF_GAN, "kernel distance, its error", distance, expected["kernel_one_block"], 1e-9)
    assert np.isnan(error)


def test_inception_score_matches_classifier_score(agrees):
    probabilities = softmax(recipe.activations()["class_logits"], axis=1)
    expected = golden("tf_gan_evaluation")["classifier_score"]
    agrees(TF_GAN, "Inception score", inception_score(probabilities, splits=1)[0], expected, 1e-9)
