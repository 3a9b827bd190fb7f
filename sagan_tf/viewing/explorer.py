"""One HTML file, without server or network, in which a person moves over pictures and sees where each place looks."""

import base64
import io
import json
import zlib
from dataclasses import dataclass
from importlib import resources

import numpy as np
from PIL import Image

from sagan_tf.viewing.files import write_text

MAX_BYTES = 5_000_000  # Of the page with 16 pictures, in proportion with more.
_PICTURES = 16
# Tried in this order until the page is small enough: largest query grid, largest key grid, grey levels.
_PLANS = (
    (64, 32, 256), (32, 32, 256), (32, 16, 256), (32, 16, 64), (32, 16, 32), (16, 16, 64), (16, 8, 64), (8, 8, 32)
)


@dataclass(frozen=True)
class Explored:
    """What an explorer shows.

    Args:
        title: str.
        images: (P, S, S, C) uint8, C 1 or 3.
        classes: P class names; empty ones without classes.
        seeds: P ints.
        maps: dict, (network, name of a layer) -> `AttentionMaps` of the P pictures.
    """

    title: str
    images: np.ndarray
    classes: tuple
    seeds: tuple
    maps: dict


def save_explorer(explored, path):
    """Writes the page; it appears only when it is complete.

    Args:
        explored: `Explored`.
        path: Of the file; its folder is made.
    """
    write_text(path, explorer_page(explored))


def explorer_page(explored):
    """Makes the page, smaller than 5 MB for 16 pictures.

    Maps are kept in 8 bits, each row by its own maximum and by its root, so that faint attention keeps its shape. Where
    that is too much, neighbouring keys are summed, every other query is left out, and levels are merged.

    Args:
        explored: `Explored`.

    Returns:
        str, HTML.
    """
    limit = MAX_BYTES * max(len(explored.images), _PICTURES) // _PICTURES
    for plan in _PLANS:
        page = _page(explored, *plan)
        if len(page) < limit:
            break
    return page


def _page(explored, most_queries, most_keys, levels):
    layers, packed = [], []
    for (network, name), maps in explored.maps.items():
        scores, queries, keys = _reduced(maps, most_queries, most_keys)
        # Row by row, the maximum apart: what is drawn is relative, what is told absolute.
        highest = scores.max(-1)
        values = np.rint(np.sqrt(scores / np.maximum(highest, 1e-30)[..., None]) * (levels - 1)).astype(np.uint8)
        # Neighbours look alike: the difference to the last query has little to say, and packs well.
        values[:, 1:] = values[:, 1:] - values[:, :-1]
        packed.append([_packed(row) for row in values])
        layers.append({
            "network": network, "name": name, "gamma": round(maps.gamma, 4), "queries": queries, "keys": keys,
            "levels": levels, "reduced": (queries, keys) != (list(maps.query_shape), list(maps.key_shape)),
            "highest": [_base64(np.float16(row).tobytes()) for row in highest],
        })
    data = {
        "title": explored.title,
        "layers": layers,
        "pictures": [
            {"class": name, "seed": int(seed), "png": _png(image), "maps": [maps[i] for maps in packed]}
            for i, (name, seed, image) in enumerate(zip(explored.classes, explored.seeds, explored.images))
        ],
    }
    # "<" would let a class name end the script.
    island = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    template = resources.files("sagan_tf.viewing").joinpath("pages", "explorer.html").read_text(encoding="utf-8")
    return template.replace("__DATA__", island)


def _reduced(maps, most_queries, most_keys):
    """(scores (P, n, m) float64, query grid, key grid) on grids no larger than asked."""
    (height, width), (rows, columns) = maps.query_shape, maps.key_shape
    scores = np.asarray(maps.scores, np.float64).reshape(-1, height, width, rows, columns)
    step = -(-height // most_queries)
    scores = scores[:, step // 2 :: step, step // 2 :: step]
    pool = -(-rows // most_keys)
    while rows % pool or columns % pool:
        pool += 1
    pictures, height, width = scores.shape[:3]
    shape = (pictures, height * width, rows // pool, pool, columns // pool, pool)
    scores = scores.reshape(shape).sum((3, 5)).reshape(pictures, height * width, -1)
    return scores, [height, width], [rows // pool, columns // pool]


def _packed(values):
    return _base64(zlib.compress(values.tobytes(), 9))


def _png(image):
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="PNG", optimize=True)
    return _base64(file.getvalue())


def _base64(data):
    return base64.b64encode(data).decode("ascii")
