"""Compares metrics with torch-fidelity, clean-fid and prdc on the same features."""

import pytest
from scipy.special import softmax

from parity import recipe
from parity.goldens import golden
from sagan_tf.evaluation import frechet_distance, inception_score, kernel_distance
from sagan_tf.evaluation.inception import to_inception_input
from sagan_tf.evaluation.precision_recall import manifold_metrics

FIDELITY, CLEAN, PRDC = "torch-fidelity 0.4.0", "clean-fid 0.1.35", "prdc 0.2"


@pytest.fixture(scope="module")
def expected():
    return golden("published_metrics")


@pytest.mark.parametrize("package, name", [(FIDELITY, "fidelity"), (CLEAN, "clean")])
def test_frechet_and_kernel_distance_match_packages(package, name, expected, agrees):
    data = recipe.activations()
    distance = frechet_distance(data["first"], data["second"])
    agrees(package, "Fréchet distance", distance, expected[f"{name}_frechet"], 1e-9)
    distance, _ = kernel_distance(data["first"][:260], data["second"])
    agrees(package, "kernel distance", distance, expected[f"{name}_kernel"], 1e-9)


def test_inception_score_of_ten_splits_matches_torch_fidelity(expected, agrees):
    probabilities = softmax(recipe.activations()["class_logits"], axis=1)
    actual = inception_score(probabilities, splits=10, seed=None)
    agrees(FIDELITY, "Inception score", actual, expected["fidelity_score"], 1e-9)


def test_precision_recall_density_coverage_match_packages(expected, agrees):
    data = recipe.activations()
    three, five = (manifold_metrics(data["first"], data["second"], k, 5) for k in (3, 5))
    agrees(FIDELITY, "precision, recall", [three.precision, three.recall], expected["fidelity_precision_recall"], 1e-6)
    actual = [five.precision, five.recall, five.density, five.coverage]
    agrees(PRDC, "precision, recall, density, coverage", actual, expected["prdc"], 1e-6)


def test_inception_input_is_resized_as_in_tensorflow_1(expected, agrees):
    ours = to_inception_input(recipe.small_images()).numpy()[:, ::13, ::13] * 128 + 128
    agrees(FIDELITY, "pictures for Inception", ours, expected["fidelity_resized"], 1e-6)
