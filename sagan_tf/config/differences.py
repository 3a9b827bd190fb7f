"""How two configs differ, in words."""

from sagan_tf.config.checks import flat_fields


def config_differences(old, new):
    """Lists the fields in which two configs differ, such as "training.loss: hinge -> wasserstein"."""
    values = dict(flat_fields(new))
    return [
        f"{key}: {as_yaml(value)} -> {as_yaml(values[key])}" for key, value in flat_fields(old) if value != values[key]
    ]


def as_yaml(value):
    """Writes a value as YAML does: null, true, [8, 16]."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(as_yaml, value))}]"
    return str(value)
