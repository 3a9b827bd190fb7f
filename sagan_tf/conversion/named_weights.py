"""A network's weights by short names, set all together or not at all."""

from sagan_tf.errors import UserError

_SHOWN = 8  # Names in a message before it says how many more.


def weights_by_name(network):
    """Gives every weight of a network a short name.

    Args:
        network: Generator or discriminator.

    Returns:
        dict, name such as `block_8_conv_1/kernel`, `block_8_conv_1/u`, `block_8_norm_1/moving_mean`,
        `attention_32/query/kernel` -> keras.Variable, in the order of the network.
    """
    return {_short(weight.path): weight for weight in network.weights}


def _short(path):
    parts = path.split("/")
    # A wrapped layer bears its wrapper's name; the statistics of conditional BN lie in a layer of their own.
    kept = [part for i, part in enumerate(parts) if part != "normalization" and (i == 0 or part != parts[i - 1])]
    return "/".join(kept)


def set_weights(network, values, source, left_over=()):
    """Sets every weight of a network, after all of them were checked.

    Args:
        network: Generator or discriminator.
        values: dict, name as in `weights_by_name` -> array. `u` may be missing where the kernel's own power iteration
            is to find it; nothing else may.
        source: str, where they come from, for the message.
        left_over: Names there that nothing was made of.

    Raises:
        UserError: A tensor is missing, left over, or of another shape; no weight was changed.
    """
    weights = weights_by_name(network)
    missing = [name for name in weights if name not in values and not _is_vector(name)]
    extra = [name for name in values if name not in weights] + list(left_over)
    shapes = [
        f"{name} is {tuple(values[name].shape)} where {tuple(weight.shape)} is needed"
        for name, weight in weights.items()
        if name in values and tuple(values[name].shape) != tuple(weight.shape)
    ]
    problems = [_listed("missing", missing), _listed("left over", extra), _listed("of another shape", shapes)]
    if any(problems):
        raise UserError(f"{source}: does not fit the {network.name}: {'; '.join(p for p in problems if p)}.")
    for name, weight in weights.items():
        if name in values:
            weight.assign(values[name])


def _is_vector(name):
    return name.rsplit("/", 1)[-1].partition("_")[0] == "u"


def _listed(what, names):
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}"
