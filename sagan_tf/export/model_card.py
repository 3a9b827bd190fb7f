"""What lies beside an exported generator: where it comes from and what it is, for people and for programs."""

import datetime
import json
import platform
from importlib import metadata

import sagan_tf
from sagan_tf.files.atomic import write_text
from sagan_tf.files.hashing import sha256

LICENCE_NOTE = (
    "The code is under Apache-2.0. What the weights may be used for depends on the data they were trained on: see the "
    "terms of the data set."
)
_PACKAGES = ("tensorflow", "keras", "numpy", "ai-edge-quantizer", "tf2onnx")


def make_model_card(name, folded, folder, artefacts, training):
    """Collects what is known.

    Args:
        name: str, of the model.
        folded: `FoldedGenerator`.
        folder: pathlib.Path of the export.
        artefacts: pathlib.Paths of what was written, inside `folder`.
        training: dict of JSON values: `data`, `seed`, `step`, `average`, `class_names`, `metrics`, `config`,
            `environment`, `generator_sha256`; None for what is not known.

    Returns:
        dict of JSON values.
    """
    height, width, channels = folded.image_shape
    return {
        "name": name,
        "exported_at": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "generator": {
            "image_height": height,
            "image_width": width,
            "image_channels": channels,
            "latent_dim": folded.latent_dim,
            "num_classes": folded.num_classes,
            "attention_maps": {key: list(shape) for key, shape in folded.attention_shapes.items()},
            "parameters": folded.model.count_params(),
        },
        "training": training,
        "licence": LICENCE_NOTE,
        "versions": {"sagan_tf": sagan_tf.__version__, "python": platform.python_version(), **_installed()},
        "files": _files(folder, artefacts),
    }


def write_model_card(card, folder):
    """Writes `model_card.json` and `model_card.md`.

    Args:
        card: dict of `make_model_card`.
        folder: pathlib.Path.

    Returns:
        list of pathlib.Paths.
    """
    texts = {"model_card.json": json.dumps(card, indent=2, allow_nan=False) + "\n", "model_card.md": card_as_text(card)}
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def card_as_text(card):
    """Renders a model card.

    Args:
        card: dict of `make_model_card`.

    Returns:
        str, Markdown.
    """
    generator, training = card["generator"], card["training"]
    sections = [
        ("Model", _model_rows(generator)),
        ("Training", _training_rows(training)),
        ("Metrics", {name: f"{one['value']:.6g} (step {one['step']})" for name, one in training["metrics"].items()}),
        *map(_evaluation_section, training.get("evaluations", [])),
        ("Versions", card["versions"]),
        ("Files", {file["path"]: f"{file['bytes']} bytes, SHA-256 `{file['sha256']}`" for file in card["files"]}),
    ]
    tables = "\n".join(f"## {title}\n{_table(rows)}" for title, rows in sections if rows)
    return (
        f"# {card['name']}\n\nA Self-Attention GAN generator: random numbers in, a picture out. Exported "
        f"{card['exported_at']}; everything below is in `model_card.json` too.\n\n{tables}\n"
        f"## Licence\n{card['licence']}\n"
    )


def _model_rows(generator):
    classes, size = generator["num_classes"], f"{generator['image_width']} x {generator['image_height']} px"
    return {
        "picture": f"{size}, {generator['image_channels']} channels",
        "latent": f"{generator['latent_dim']} numbers, drawn from N(0, 1)",
        "classes": "none" if classes is None else f"{classes}: labels 0 .. {classes - 1}",
        "attention maps": ", ".join(
            f"`{name}` {queries} x {keys}" for name, (queries, keys) in generator["attention_maps"].items()
        ) or "none",
        "parameters": f"{generator['parameters']:,}",
        "weights": "spectral and batch normalisation are folded into them",
    }


def _evaluation_section(found):
    """Title and rows of what `sagan_tf.evaluate` found; numbers without what they were made with say nothing."""
    rows = {
        title: " ".join(part for part in (_figure(one), f"({one['note']})" if one["note"] else "") if part)
        for title, one in found["figures"].items()
    }
    samples = found["samples"]
    title = (
        f"Evaluation: {samples['count']:,} samples from seed {samples['seeds'][0]}, truncation "
        f"{samples['truncation']:g}, against {found['reference']}, split {found['split']}, by {found['features']} "
        f"(SHA-256 {found['features_sha256'][:12]}), {found['batch_normalization']}"
    )
    return title, rows


def _figure(one):
    if one["value"] is None:
        return "unknown"
    return f"{one['value']:.6g}" if one["error"] is None else f"{one['value']:.6g} ± {one['error']:.2g}"


def _training_rows(training):
    rows = {name: training[name] for name in ("data", "step", "seed", "average")}
    rows["weights' SHA-256"] = f"`{training['generator_sha256']}`"
    return {name: "unknown" if value is None else value for name, value in rows.items()}


def _table(rows):
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]) + "\n"


def _installed():
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _files(folder, artefacts):
    paths = [path for artefact in artefacts for path in ([artefact] if artefact.is_file() else artefact.rglob("*"))]
    return [
        {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(paths)
        if path.is_file()
    ]
