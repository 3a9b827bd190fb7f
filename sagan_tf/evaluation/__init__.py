"""Figures from arrays of features and of class probabilities; floats out, in float64, whatever made the features."""

from sagan_tf.evaluation.distances import frechet_distance as frechet_distance
from sagan_tf.evaluation.distances import inception_score as inception_score
from sagan_tf.evaluation.distances import kernel_distance as kernel_distance
