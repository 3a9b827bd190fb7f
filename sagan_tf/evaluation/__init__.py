"""Metrics from arrays of features and class probabilities: NumPy in, floats out."""

from sagan_tf.evaluation.distances import frechet_distance as frechet_distance
from sagan_tf.evaluation.distances import kernel_distance as kernel_distance
from sagan_tf.evaluation.scores import inception_score as inception_score
