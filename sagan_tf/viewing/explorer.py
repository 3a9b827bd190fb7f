"""One HTML file that shows what the position under the pointer attends to; needs no server or network."""

import base64
import dataclasses
import math
import zlib
from dataclasses import dataclass

import numpy as np

from sagan_tf.files.atomic import write_text
from sagan_tf.viewing import heat_map
from sagan_tf.viewing.image_files import encode, to_pil
from sagan_tf.viewing.page_files import fill_page

MAX_BYTES = 5_000_000  # of a page with up to 16 images; grows in proportion beyond
_IMAGES = 16
# Largest query grid, largest key grid and levels per score; tried in this order until the page is small enough.
_RESOLUTIONS = (
    (64, 32, 256),
    (32, 32, 256),
    (32, 16, 256),
    (32, 16, 64),
    (32, 16, 32),
    (16, 16, 64),
    (16, 8, 64),
    (8, 8, 32),
)


@dataclass(frozen=True)
class ExplorerData:
    """What an explorer shows of P images.

    Args:
        title: str.
        images: (P, H, W, 1 or 3) uint8.
        classes: P names; empty strings for a model without classes.
        seeds: P ints.
        maps: dict, (network, name of a layer) -> `AttentionMaps` of the P images.
    """

    title: str
    images: np.ndarray
    classes: tuple
    seeds: tuple
    maps: dict


def save_explorer(data, path):
    """Writes the page of an `ExplorerData`."""
    write_text(path, explorer_page(data))


def explorer_page(data):
    """Returns the page as a str of HTML, smaller than 5 MB for 16 images.

    Scores are stored in 8 bits: the square root of each map, relative to its maximum, so that faint attention remains
    visible. If the page is too large, neighboring keys are summed, queries are skipped and levels merged.
    """
    count = len(data.images)
    limit = MAX_BYTES * max(count, _IMAGES) // _IMAGES
    for resolution in _RESOLUTIONS:
        # One image is a good enough estimate to skip resolutions that are far too large.
        if len(_page(data, slice(0, 1), *resolution)) * count > 1.5 * limit and resolution != _RESOLUTIONS[-1]:
            continue
        page = _page(data, slice(None), *resolution)
        if len(page) < limit:
            break
    return page


def shrink(maps):
    """Reduces `AttentionMaps` to the largest grids that an explorer shows, to save memory."""
    max_queries, max_keys, _ = _RESOLUTIONS[0]
    if max(maps.query_shape) <= max_queries and max(maps.key_shape) <= max_keys:
        return maps
    scores, _, keys = _reduce(maps, slice(None), max_queries, max_keys)
    step = -(-max(maps.query_shape) // max_queries)
    features = maps.features[:, step // 2 :: step, step // 2 :: step]
    return dataclasses.replace(maps, scores=scores, features=features, key_shape=tuple(keys), shrunken=True)


def _page(data, selection, max_queries, max_keys, levels):
    layers, maps_by_layer = [], []
    for (network, name), maps in data.maps.items():
        scores, queries, keys = _reduce(maps, selection, max_queries, max_keys)
        highest = scores.max(-1)
        values = np.rint(np.sqrt(scores / np.maximum(highest, 1e-30)[..., None]) * (levels - 1)).astype(np.uint8)
        # Differences of neighboring queries compress well.
        values[:, 1:] = values[:, 1:] - values[:, :-1]
        maps_by_layer.append([_base64(zlib.compress(picture.tobytes(), 9)) for picture in values])
        layers.append(
            {
                "network": network,
                "name": name,
                "gamma": round(maps.gamma, 4),
                "queries": queries,
                "keys": keys,
                "levels": levels,
                "reduced": maps.shrunken or (queries, keys) != (list(maps.query_shape), list(maps.key_shape)),
                "highest": [_base64(np.float16(picture).tobytes()) for picture in highest],
            }
        )
    pictures = [
        {"class": name, "seed": int(seed), "png": _base64(encode(to_pil(image), "PNG", optimize=True))}
        for name, seed, image in zip(data.classes[selection], data.seeds[selection], data.images[selection])
    ]
    for i, picture in enumerate(pictures):
        picture["maps"] = [maps[i] for maps in maps_by_layer]
    heat = {
        "stops": heat_map.STOPS,
        "opacity": heat_map.OPACITY,
        "darkest": heat_map.DARKEST,
        "stands_out": heat_map.STANDS_OUT,
    }
    return fill_page("explorer.html", {"title": data.title, "heat": heat, "layers": layers, "pictures": pictures})


def _reduce(maps, selection, max_queries, max_keys):
    """Returns scores (P, queries, keys) float32 of the selected images, the query grid and the key grid."""
    (height, width), (rows, columns) = maps.query_shape, maps.key_shape
    scores = maps.scores[selection].reshape(-1, height, width, rows, columns)
    step = -(-max(height, width) // max_queries)
    scores = scores[:, step // 2 :: step, step // 2 :: step]
    largest = math.gcd(rows, columns)
    pool = next((n for n in range(-(-max(rows, columns) // max_keys), largest) if largest % n == 0), largest)
    count, height, width = scores.shape[:3]
    shape = (count, height * width, rows // pool, pool, columns // pool, pool)
    scores = scores.reshape(shape).sum((3, 5), dtype=np.float32).reshape(count, height * width, -1)
    return scores, [height, width], [rows // pool, columns // pool]


def _base64(data):
    return base64.b64encode(data).decode("ascii")
