"""Names the weights of a network, and sets all of them or none."""

import numpy as np

from sagan_tf.errors import UserError, list_some
from sagan_tf.layers.spectral_normalization import spectral_normalizations, update_all_u

_MAX_LISTED = 8  # Names in a message.
_ITERATIONS = 100  # that find a missing u


def weights_by_name(network):
    """Maps a short name, such as `block_8_conv_1/kernel`, to each weight of a network, in the network's order."""
    return {_short_name(weight.path): weight for weight in network.weights}


def _short_name(path):
    parts = path.split("/")
    # A wrapped layer has its wrapper's name; the statistics of conditional BN are in a sub-layer `normalization`.
    kept = [part for i, part in enumerate(parts) if part != "normalization" and (i == 0 or part != parts[i - 1])]
    return "/".join(kept)


def set_weights(network, values, source, unused=()):
    """Sets every weight of a network after checking all of them.

    Args:
        network: Generator or discriminator.
        values: dict, name as in `weights_by_name` -> array. A `u` may be missing: power iterations find it.
        source: str, where the values come from, for messages.
        unused: Names at the source that were not converted.

    Raises:
        UserError: A tensor is missing, unexpected, of the wrong shape or not finite; no weight is changed.
    """
    weights = weights_by_name(network)
    missing = [name for name in weights if name not in values and not is_singular_vector(name)]
    unexpected = [name for name in values if name not in weights] + list(unused)
    wrong_shape = [
        f"{name} is {tuple(values[name].shape)}, expected {tuple(weight.shape)}"
        for name, weight in weights.items()
        if name in values and tuple(values[name].shape) != tuple(weight.shape)
    ]
    not_finite = [name for name, value in values.items() if not np.isfinite(value).all()]
    found = {"missing": missing, "unexpected": unexpected, "of the wrong shape": wrong_shape, "not finite": not_finite}
    problems = [f"{len(names)} {problem}: {list_some(names, _MAX_LISTED)}" for problem, names in found.items() if names]
    if problems:
        raise UserError(f"{source}: does not fit the {network.name}: {'; '.join(problems)}.")
    for name, weight in weights.items():
        if name in values:
            weight.assign(values[name])
    not_given = {id(weight) for name, weight in weights.items() if name not in values}
    normalizations = spectral_normalizations(network).values()
    incomplete = [layer for layer in normalizations if any(id(vector) in not_given for vector in layer.vectors)]
    for _ in range(_ITERATIONS if incomplete else 0):
        update_all_u(incomplete)


def is_singular_vector(name):
    """Whether a weight is a vector u of spectral normalization."""
    return name.rsplit("/", 1)[-1].partition("_")[0] == "u"
