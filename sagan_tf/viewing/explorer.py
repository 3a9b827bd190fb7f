"""One HTML file, without server or network, in which a person moves over pictures and sees where each place looks."""

import base64
import dataclasses
import io
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sagan_tf.files.atomic import write_text
from sagan_tf.viewing.page_files import fill_page

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
    count = len(explored.images)
    limit = MAX_BYTES * max(count, _PICTURES) // _PICTURES
    for plan in _PLANS:
        # One picture tells what all will take, near enough to spare the rest of a plan that is much too large.
        if len(_page(explored, slice(0, 1), *plan)) * count > 1.5 * limit and plan != _PLANS[-1]:
            continue
        page = _page(explored, slice(None), *plan)
        if len(page) < limit:
            break
    return page


def shrink(maps):
    """Brings maps to the largest grids that an explorer shows, so that many fit into memory.

    Args:
        maps: `AttentionMaps`.

    Returns:
        AttentionMaps, the same where they are small enough.
    """
    (most_queries, most_keys, _), (height, _) = _PLANS[0], maps.query_shape
    if height <= most_queries and maps.key_shape[0] <= most_keys:
        return maps
    scores, _, keys = _reduced(maps, slice(None), most_queries, most_keys)
    step = -(-height // most_queries)
    features = maps.features[:, step // 2 :: step, step // 2 :: step]
    return dataclasses.replace(maps, scores=scores, features=features, key_shape=tuple(keys), shrunken=True)


def _page(explored, part, most_queries, most_keys, levels):
    layers, packed = [], []
    for (network, name), maps in explored.maps.items():
        scores, queries, keys = _reduced(maps, part, most_queries, most_keys)
        # Row by row, the maximum apart: what is drawn is relative, what is told absolute.
        highest = scores.max(-1)
        values = np.rint(np.sqrt(scores / np.maximum(highest, 1e-30)[..., None]) * (levels - 1)).astype(np.uint8)
        # Neighbours look alike: the difference to the last query has little to say, and packs well.
        values[:, 1:] = values[:, 1:] - values[:, :-1]
        packed.append([_packed(row) for row in values])
        layers.append({
            "network": network, "name": name, "gamma": round(maps.gamma, 4), "queries": queries, "keys": keys,
            "levels": levels,
            "reduced": maps.shrunken or (queries, keys) != (list(maps.query_shape), list(maps.key_shape)),
            "highest": [_base64(np.float16(row).tobytes()) for row in highest],
        })
    shown = zip(explored.classes[part], explored.seeds[part], explored.images[part])
    data = {
        "title": explored.title,
        "layers": layers,
        "pictures": [
            {"class": name, "seed": int(seed), "png": _png(image), "maps": [maps[i] for maps in packed]}
            for i, (name, seed, image) in enumerate(shown)
        ],
    }
    return fill_page("explorer.html", data)


def _reduced(maps, part, most_queries, most_keys):
    """(scores (P, n, m) float32, query grid, key grid) of a part of the pictures, on grids no larger than asked."""
    (height, width), (rows, columns) = maps.query_shape, maps.key_shape
    scores = maps.scores[part].reshape(-1, height, width, rows, columns)
    step = -(-height // most_queries)
    scores = scores[:, step // 2 :: step, step // 2 :: step]
    pool = -(-rows // most_keys)
    while rows % pool or columns % pool:
        pool += 1
    pictures, height, width = scores.shape[:3]
    shape = (pictures, height * width, rows // pool, pool, columns // pool, pool)
    scores = scores.reshape(shape).sum((3, 5), dtype=np.float32).reshape(pictures, height * width, -1)
    return scores, [height, width], [rows // pool, columns // pool]


def _packed(values):
    return _base64(zlib.compress(values.tobytes(), 9))


def _png(image):
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="PNG", optimize=True)
    return _base64(file.getvalue())


def _base64(data):
    return base64.b64encode(data).decode("ascii")
