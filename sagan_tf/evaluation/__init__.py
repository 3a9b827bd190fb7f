"""Feature networks, the evaluator and its metrics.

The exported functions take arrays of features or class probabilities and return floats.
"""

from typing import TYPE_CHECKING

from sagan_tf.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from sagan_tf.evaluation.distances import frechet_distance as frechet_distance
    from sagan_tf.evaluation.distances import kernel_distance as kernel_distance
    from sagan_tf.evaluation.scores import inception_score as inception_score

# Lazily: the options of `evaluate` need the names of the metrics, without TensorFlow.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "frechet_distance": "sagan_tf.evaluation.distances",
        "inception_score": "sagan_tf.evaluation.scores",
        "kernel_distance": "sagan_tf.evaluation.distances",
    },
)
