"""How two configs differ, in words."""

from sagan_tf.config.checks import flat_fields


def config_differences(old, new):
    """Lists the fields in which two configs differ.

    Args:
        old, new: `Config`s.

    Returns:
        list of str, such as `training.loss: hinge -> wasserstein`, in the order of the fields.
    """
    after = dict(flat_fields(new))
    return [
        f"{key}: {shown(value)} -> {shown(after[key])}" for key, value in flat_fields(old) if value != after[key]
    ]


def shown(value):
    """Writes a value as YAML would: null, true, [8, 16].

    Args:
        value: Value of a field.

    Returns:
        str.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)
