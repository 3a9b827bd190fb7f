"""Export as a web page that runs the generator in the browser: a folder for any static web server."""

import datetime
import json
import math
import os
import shutil
import subprocess
from pathlib import Path

from sagan_tf.errors import UserError
from sagan_tf.export.tflite import VARIANTS as ALL_VARIANTS
from sagan_tf.export.tflite import export_tflite
from sagan_tf.files.atomic import atomic_folder, carry_over
from sagan_tf.files.cache import user_cache_folder
from sagan_tf.generation.directions import name_directions, principal_directions
from sagan_tf.generation.folding import fold_generator

VARIANTS = ("dynamic_int8", "float16")  # the page starts with the first and offers the others
MARK = "model.json"  # marks a folder as an exported page, which may be replaced
_PAGE = Path(__file__).with_name("page")  # a link to `export/web` of the repository
_PAGE_FILES = ("index.html", "app.js", "heat.js", "latents.js", "link.js", "style.css")
# Of the four builds of LiteRT.js, the one for browsers with relaxed SIMD and the one for the others. The other two
# need headers or flags that a static server does not send.
_RUNTIME_FILES = {
    "@litertjs/core/dist/index.js": "core/index.js",
    "@litertjs/wasm-utils/dist/index.js": "wasm-utils/index.js",
    **{
        f"@litertjs/core/wasm/litert_wasm_{build}internal.{suffix}": f"wasm/litert_wasm_{build}internal.{suffix}"
        for build in ("", "compat_")
        for suffix in ("js", "wasm")
    },
}
_NPM_SECONDS = 600


def export_web(generator, folder, *, name="sagan", training=None, node_modules=None):
    """Writes a page that runs a generator in the browser, with LiteRT.js on the user's own machine.

    The page draws latents as the signature `sample` does, moves them along the generator's principal directions, and
    shows the attention of the position under the pointer.

    Args:
        generator: `FoldedGenerator`, or keras.Model [latent, label] or latent -> image, which is folded.
        folder: Path of the page; a link is followed. An older page is replaced atomically; what is not of a page, such
            as `.git` or `CNAME`, stays.
        name: str, the title.
        training: dict of `describe_training`, of which the page shows data, step and class names; None: unknown.
        node_modules: Folder with `@litertjs/core` and `@litertjs/wasm-utils` in the versions of
            `export/web/package.json`. None: fetched once with npm, into a cache.

    Returns:
        pathlib.Path of the folder.

    Raises:
        UserError: LiteRT.js is not available, or the folder holds other files or is a mount point.
        ValueError: The generator cannot be folded.
    """
    folded = fold_generator(generator)
    if folded.image_shape[-1] not in (1, 3):
        raise UserError(f"web: a page can show 1 or 3 image channels; the generator makes {folded.image_shape[-1]}.")
    runtime = _runtime(node_modules)
    folder = Path(folder)
    if folder.exists() and not (folder / MARK).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"web: {folder}: this is not an exported page. Move it away, or choose another folder.")
    if os.path.ismount(os.path.realpath(folder)):
        raise UserError(f"web: {folder}: a mount point cannot be replaced. Choose a folder in it, or mount its parent.")
    with atomic_folder(folder) as temporary_folder:
        for file in _PAGE_FILES:
            shutil.copyfile(_PAGE / file, temporary_folder / file)
        for source, target in _RUNTIME_FILES.items():
            (temporary_folder / "litert" / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(runtime / source, temporary_folder / "litert" / target)
        files = export_tflite(folded, temporary_folder, variants=VARIANTS, batch=1)
        description = describe(folded, name, training or {}, files)
        text = json.dumps(description, indent=1, allow_nan=False) + "\n"
        (temporary_folder / MARK).write_text(text, encoding="utf-8")
        _keep_others(folder, temporary_folder)
    return folder


def _keep_others(folder, new_folder):
    """Carries over what users have put beside an older page, such as the repository that publishes it."""
    older = {f"generator_{variant}.tflite" for variant in ALL_VARIANTS}
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in older and not os.path.lexists(new_folder / path.name):
            carry_over(path, new_folder / path.name)


def describe(folded, name, training, files):
    """Returns what the page reads about a generator, a dict of JSON values; `files` are paths by variant."""
    direction_names, directions = name_directions(folded, principal_directions(folded))
    return {
        "name": name,
        "exported_at": datetime.date.today().isoformat(),
        "image_shape": list(folded.image_shape),
        "latent_dim": folded.latent_dim,
        "num_classes": folded.num_classes,
        "class_names": training.get("class_names"),
        # The page shows grids of the aspect of the image only.
        "attention": {
            layer: list(sizes)
            for layer, sizes in folded.attention_shapes.items()
            if all(_has_grid(size, folded.image_shape) for size in sizes)
        },
        "direction_names": direction_names,
        "directions": [[round(float(x), 6) for x in row] for row in directions],
        "training": {key: training.get(key) for key in ("data", "step", "seed")},
        "files": [
            {"variant": variant, "path": path.name, "bytes": path.stat().st_size} for variant, path in files.items()
        ],
    }


def _has_grid(count, image_shape):
    """Whether `count` cells fill a grid of the aspect of an image."""
    height, width, _ = image_shape
    rows = math.isqrt(count * height // width)
    return rows > 0 and count % rows == 0 and rows * width == count // rows * height


def _runtime(node_modules):
    if node_modules is None:
        node_modules = _fetched_runtime()
    missing = [file for file in _RUNTIME_FILES if not (Path(node_modules) / file).is_file()]
    if missing:
        raise UserError(
            f"web: {node_modules} lacks {missing[0]}. Run `npm ci` in export/web, and give its node_modules with "
            "--node_modules."
        )
    return Path(node_modules)


def _fetched_runtime():
    version = json.loads((_PAGE / "package.json").read_text(encoding="utf-8"))["dependencies"]["@litertjs/core"]
    folder = user_cache_folder() / f"litertjs-{version}"
    if not folder.is_dir():
        print(f"Fetching LiteRT.js {version} with npm, once, into {folder}", flush=True)
        _fetch(folder)
    return folder / "node_modules"


def _fetch(folder):
    hint = "Run `npm ci` in export/web on another machine, and give its node_modules with --node_modules."
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(f"web: npm is not installed; it fetches LiteRT.js. Install npm. Or: {hint}")
    with atomic_folder(folder) as temporary_folder:
        for file in ("package.json", "package-lock.json"):
            shutil.copyfile(_PAGE / file, temporary_folder / file)
        # `ci` installs what the lock file says and checks its hashes.
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            result = subprocess.run(command, cwd=temporary_folder, capture_output=True, text=True, timeout=_NPM_SECONDS)
        except subprocess.TimeoutExpired:
            raise UserError(f"web: npm did not finish within {_NPM_SECONDS} s. {hint}") from None
        if result.returncode:
            output = " ".join((result.stderr or result.stdout).split())[:200]
            raise UserError(f"web: npm could not fetch LiteRT.js: {output} {hint}")
