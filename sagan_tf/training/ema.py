"""The exponential moving average (EMA) of the generator."""

import keras
from keras import ops

from sagan_tf.accelerate.fused import fused_update_moving_average
from sagan_tf.layers import spectral_normalizations
from sagan_tf.layers.keras_compat import set_trainable
from sagan_tf.layers.spectral_normalization import update_all_u


class AveragedGenerator:
    """Keeps a copy of a generator whose weights are the exponential moving average of the generator's weights.

        average <- average + (1 - decay) (weight - average)

    Kernels, biases, class tables and the moving statistics of batch normalization are averaged alike. The vectors u of
    spectral normalization are not, because an average of singular vectors is not a singular vector: they follow the
    averaged kernels by power iterations of their own, except in layers of the generator that are frozen. The copy is
    not frozen: Keras would save it so.

    Args:
        generator: Built keras.Model.
        decay: float in [0, 1).
        start_step: int >= 0. The first `start_step` updates copy the generator, as in PyTorch-StudioGAN. BigGAN-PyTorch
            counts from 1, so that its `ema_start` s is our s - 1.

    Source: Brock et al. 2019 (BigGAN), which has a start step too; Polyak and Juditsky 1992.
    """

    def __init__(self, generator, decay, start_step=0):
        if not 0 <= decay < 1:
            raise ValueError(f"`decay` must be in [0, 1). Received: {decay=}.")
        self.model = keras.models.clone_model(generator)
        set_trainable(self.model, True)  # also where the generator is frozen
        self.model.set_weights(generator.get_weights())
        normalizations = (spectral_normalizations(model).values() for model in (self.model, generator))
        self._normalizations = list(zip(*normalizations))
        vectors = {id(vector) for layer, _ in self._normalizations for vector in layer.vectors}
        pairs = zip(self.model.weights, generator.weights)
        self._pairs = [(average, weight) for average, weight in pairs if id(average) not in vectors]
        self.decay = decay
        self.start_step = start_step

    def update(self, step, is_applied=True):
        """Updates the average after a training step.

        Args:
            step: Scalar integer tensor, the step, counted from 0.
            is_applied: True or scalar tensor, whether the generator was updated. If not, the average stays as it is.
        """
        if is_applied is True:
            self._update(step)
        else:
            ops.cond(is_applied, lambda: self._update(step), lambda: None)

    def _update(self, step):
        rate = ops.where(step < self.start_step, 1.0, 1.0 - self.decay)
        rates = {average.dtype: ops.cast(rate, average.dtype) for average, _ in self._pairs}
        for average, weight in self._pairs:
            # Not by `functional.update_moving_average`, which would synchronize the replicas: each moves its own copy,
            # and all by the same weights.
            if "float" in average.dtype:
                fused_update_moving_average(average, weight.value, rates[average.dtype])
            else:
                average.assign(weight)  # a count has no average
        update_all_u([layer for layer, origin in self._normalizations if origin.trainable])  # not of frozen blocks
