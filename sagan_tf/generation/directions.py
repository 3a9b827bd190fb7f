"""Directions of the latent space along which a generator's images change the most."""

import keras
import numpy as np


def principal_directions(folded, count=6):
    """Finds the `count` directions that the first layer of a `FoldedGenerator` stretches the most.

    The first layer maps a latent z to z W + b, so that a step n moves its output by n W, whatever z is. The unit
    vectors n with the longest n W are the eigenvectors of W W^T.

    Returns (K, D) float32: orthonormal rows, the most stretched first; the entry of largest size in each is positive.
    K is 0 if the first layer is not a `Dense`.

    Source: Shen and Zhou 2021, "Closed-Form Factorization of Latent Semantics in GANs", equation 4.
    """
    latent = folded.model.inputs[0]
    for layer in folded.model.layers:
        if isinstance(layer, keras.layers.Dense) and layer.input is latent:
            kernel = np.float64(keras.ops.convert_to_numpy(layer.kernel))
            directions = np.linalg.eigh(kernel @ kernel.T)[1].T[::-1][:count]
            largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
            return np.float32(directions * np.sign(largest))
    return np.zeros((0, folded.latent_dim), np.float32)
