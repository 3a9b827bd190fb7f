"""The JSON files of a run folder, which users may have edited."""

from sagan_tf.errors import UserError
from sagan_tf.files.untrusted import read_json


def read_record(path, parse, content):
    """Reads what `parse` makes of a JSON file, None without a file; raises UserError if the file holds no `content`."""
    if not path.is_file():
        return None
    try:
        return parse(read_json(path))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise UserError(f"{path}: does not hold {content}. Move the file away.") from None


def parse_class_names(value):
    """Class names: list of str in the order of the labels."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError
    return value


def parse_fingerprint(value):
    """Fingerprint of the data: dict of `data.fingerprint.portable_fingerprint`."""
    names, counts, hashes = value["class_names"], value["class_counts"], parse_class_names(value["hashes"])
    if (names is None) != (counts is None) or len(hashes) not in (1, len(names or ())):
        raise ValueError
    if names is not None:
        names, counts = parse_class_names(names), [int(count) for count, _ in zip(counts, names, strict=True)]
    return {
        "name": str(value["name"]),
        "split": str(value["split"]),
        "num_images": int(value["num_images"]),
        "class_names": names,
        "class_counts": counts,
        "hashes": hashes,
    }


def parse_starts(value):
    """Starts: list of dicts, one per start, whose `command` is a list."""
    if not isinstance(value, list) or not all(isinstance(start, dict) for start in value):
        raise ValueError
    if not all(isinstance(start.get("command", []), list) for start in value):
        raise ValueError
    return value


def parse_best(value):
    """Best generator: dict of `step`, `metric`, `value` and `protocol`, a list of JSON values."""
    return {
        "step": int(value["step"]),
        "metric": str(value["metric"]),
        "value": float(value["value"]),
        "protocol": list(value["protocol"]),
    }


def parse_recoveries(value):
    """Recoveries: list of dicts of `kind`, `step` and `rate_factor`."""
    recoveries = [
        {"kind": str(recovery["kind"]), "step": int(recovery["step"]), "rate_factor": float(recovery["rate_factor"])}
        for recovery in value
    ]
    if not all(0 < recovery["rate_factor"] <= 1 for recovery in recoveries):
        raise ValueError
    return recoveries
