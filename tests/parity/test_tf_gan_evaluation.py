"""TF-GAN's evaluation functions on features and logits against ours."""

import numpy as np
import pytest
from scipy.special import softmax

from parity import recipe
from parity.goldens import golden
from sagan_tf.evaluation import frechet_distance, inception_score, kernel_distance

TF_GAN = "TF-GAN 2.1.0"


@pytest.mark.parametrize("covariance, name", [("full", ""), ("diagonal", "_diagonal"), ("none", "_mean_only")])
def test_frechet_distances(covariance, name, agrees):
    data = recipe.activations()
    got = frechet_distance(data["first"], data["second"], covariance)
    agrees(TF_GAN, "Fréchet distances", got, golden("tf_gan_evaluation")[f"frechet{name}"], 1e-9)


def test_kernel_distance_and_its_blocks(agrees):
    data, want = recipe.activations(), golden("tf_gan_evaluation")
    distance, error = kernel_distance(data["first"], data["second"], block_size=90)
    agrees(TF_GAN, "kernel distance, its error", [distance, error], [want["kernel"], want["kernel_error"]], 1e-9)
    distance, error = kernel_distance(data["first"][:200], data["second"][:200])
    agrees(TF_GAN, "kernel distance, its error", distance, want["kernel_one_block"], 1e-9)
    assert np.isnan(error)


def test_inception_score_is_the_classifier_score(agrees):
    probabilities = softmax(recipe.activations()["class_logits"], axis=1)
    want = golden("tf_gan_evaluation")["classifier_score"]
    agrees(TF_GAN, "Inception score", inception_score(probabilities, splits=1)[0], want, 1e-9)
