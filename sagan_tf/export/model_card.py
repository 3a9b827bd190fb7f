"""The model card of an export, as JSON for programs and as Markdown for people."""

import datetime
import html
import json
import platform
import re
from importlib import metadata

import sagan_tf
from sagan_tf.errors import UserError
from sagan_tf.export.loading_code import loading_code
from sagan_tf.files.atomic import write_text
from sagan_tf.files.hashing import sha256
from sagan_tf.files.untrusted import read_json
from sagan_tf.generation.truncation import truncation_text

LICENSE_NOTE = (
    "The code is under Apache-2.0. What the weights may be used for depends on the data they were trained on: see the "
    "terms of the data set."
)
_CLASSES_SHOWN = 1000
_PACKAGES = ("tensorflow", "keras", "numpy", "litert-quantizer", "tf2onnx")


def make_model_card(name, folded, folder, paths, training, samples=None):
    """Returns the content of a model card as JSON values.

    Args:
        name: str, name of the model.
        folded: `FoldedGenerator`.
        folder: pathlib.Path of the export.
        paths: pathlib.Paths of the exported files and folders. The card also lists those of an earlier card in the
            folder, if they are unchanged and of the same generator.
        training: dict of `describe_training`.
        samples: pathlib.Path of an image in the folder, or None.
    """
    height, width, channels = folded.image_shape
    files = _files_of(paths)
    files = _kept_files(folder, training, files) + files
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
        "loading": loading_code(folded, folder, files),
        "samples": None if samples is None else samples.relative_to(folder).as_posix(),
        "training": training,
        "license": LICENSE_NOTE,
        "versions": {"sagan_tf": sagan_tf.__version__, "python": platform.python_version(), **_package_versions()},
        "files": sorted((_describe(folder, file) for file in files), key=lambda about: about["path"]),
    }


def write_model_card(card, folder):
    """Writes the dict of `make_model_card` as `model_card.json` and `model_card.md`; returns their paths."""
    texts = {"model_card.json": json.dumps(card, indent=2, allow_nan=False) + "\n", "model_card.md": to_markdown(card)}
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def to_markdown(card, place="In this folder:"):
    """Renders the dict of `make_model_card` as Markdown; `place` is where its lines of Python load from."""
    generator, training = card["generator"], card["training"]
    metrics = {name: f"{metric['value']:.6g} (step {metric['step']})" for name, metric in training["metrics"].items()}
    sections = [
        ("Model", _model_rows(generator)),
        ("Training", _training_rows(training)),
        ("Metrics", metrics),
        *map(_evaluation_section, training.get("evaluations", [])),
        ("Versions", card["versions"]),
        ("Files", {file["path"]: f"{file['bytes']} bytes, SHA-256 `{file['sha256']}`" for file in card["files"]}),
    ]
    tables = "\n".join(f"## {_escape(title)}\n{_table(rows)}" for title, rows in sections if rows)
    samples = f"![Samples, one column per seed]({card['samples']})\n\n" if card["samples"] else ""
    return (
        f"# {_escape(card['name'])}\n\nA Self-Attention GAN generator: random numbers in, an image out. Exported "
        f"{card['exported_at']}; everything below is in `model_card.json` too.\n\n{samples}"
        f"{_loading_section(card['loading'], place)}{_class_section(training['class_names'])}{tables}\n"
        f"## License\n{card['license']}\n"
    )


def _loading_section(loading, place):
    """The lines that load each format, as blocks of code."""
    blocks = [f"```python\n{chr(10).join(lines)}\n```\n\n" for lines in loading.values()]
    return f"## Load it\n{place}\n\n{''.join(blocks)}" if blocks else ""


def _class_section(names):
    if not names:
        return ""
    shown = ", ".join(f"{label} {_escape_all(name)}" for label, name in enumerate(names[:_CLASSES_SHOWN]))
    more = f" and {len(names) - _CLASSES_SHOWN:,} more" if len(names) > _CLASSES_SHOWN else ""
    return f"## Classes\n{shown}{more}\n\n"


def _model_rows(generator):
    classes, size = generator["num_classes"], f"{generator['image_width']} x {generator['image_height']} px"
    maps = [f"`{name}` {queries} x {keys}" for name, (queries, keys) in generator["attention_maps"].items()]
    return {
        "image": f"{size}, {generator['image_channels']} channels",
        "latent": f"{generator['latent_dim']} numbers, drawn from N(0, 1)",
        "classes": "none" if classes is None else f"{classes}: labels 0 .. {classes - 1}",
        "attention maps": ", ".join(maps) or "none",
        "parameters": f"{generator['parameters']:,}",
        "weights": "spectral and batch normalization are folded into them",
    }


def _evaluation_section(evaluation):
    """Title and rows of a result of `sagan_tf.evaluate`; the title names the protocol."""
    rows = {title: figure["text"] for title, figure in evaluation["figures"].items()}
    samples = evaluation["samples"]
    split = f", split {evaluation['split']}" if evaluation["split"] else ""
    title = (
        f"Evaluation: {samples['count']:,} samples from seed {samples['seeds'][0]}, truncation "
        f"{truncation_text(samples['truncation'])}, against {evaluation['reference']}{split}, by "
        f"{evaluation['features']}"
    )
    return title, rows | {f"made with: {name}": text for name, text in evaluation["how"].items()}


def _training_rows(training):
    rows = {name: training[name] for name in ("data", "step", "seed", "average")}
    rows |= training["how"]
    rows["weights' SHA-256"] = f"`{training['generator_sha256']}`"
    return {name: "unknown" if value is None else value for name, value in rows.items()}


def _table(rows):
    lines = (f"| {_escape(name)} | {_escape(value)} |" for name, value in rows.items())
    return "\n".join(["| | |", "|---|---|", *lines]) + "\n"


def _escape(value):
    """Text that Markdown shows as it is, without HTML, links and further cells."""
    text = " ".join(html.escape(str(value), quote=False).split()).replace("\\", "\\\\")
    return text.replace("[", "\\[").replace("|", "\\|")


def _escape_all(value):
    """As `_escape`, also without emphasis, code and mathematics."""
    return re.sub(r"([*_`~$])", r"\\\1", _escape(value))


def _package_versions():
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _files_of(paths):
    """Lists files, and the files in folders."""
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return [file for file in files if file.is_file()]


def _describe(folder, file):
    return {"path": file.relative_to(folder).as_posix(), "bytes": file.stat().st_size, "sha256": sha256(file)}


def _kept_files(folder, training, files):
    """The files of the card in the folder that `files` lack, unchanged since and of the same generator."""
    try:
        card = read_json(folder / "model_card.json")
        if card["training"]["generator_sha256"] != training["generator_sha256"]:
            return []
        listed = [(folder / about["path"], about) for about in card["files"]]
        present = [(file, about) for file, about in listed if file not in files and file.is_file()]
        return [file for file, about in present if _describe(folder, file) == about]
    except (UserError, OSError, LookupError, TypeError, ValueError):  # no card, or one of another form
        return []
