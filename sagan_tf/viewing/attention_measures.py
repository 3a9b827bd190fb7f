"""Measures of attention maps: distance, entropy, attention outside the convolutions' field, symmetry; NumPy."""

import math

import numpy as np

# Titles and cells of the table.
_COLUMNS = (
    ("network", "{network}"),
    ("layer", "{layer}"),
    ("images", "{pictures}"),
    ("gamma", "{gamma:.3f}"),
    ("distance px", "{distance_px:.1f}"),
    ("convolution", "{convolution_distance_px:.1f}"),
    ("uniform", "{uniform_distance_px:.1f}"),
    ("beyond field", "{outside_field:.0%}"),
    ("uniform", "{uniform_outside_field:.0%}"),
    ("entropy bits", "{entropy_bits:.2f}"),
    ("effective keys", "{effective_keys:.1f} of {keys}"),
)
_MIRROR_COLUMNS = (
    ("mirror agreement", "{mirror_agreement:.2f}"),
    ("mirrored place", "{mirrored_place:.0%}"),
    ("uniform", "{uniform_mirrored_place:.0%}"),
)


def measure_attention(maps, image_size):
    """Measures the maps of a layer.

    Symbols: N queries, M keys; lengths are in px of the image.

    | name | mean over images and queries of |
    |---|---|
    | distance_px | the attention-weighted distance from query to key |
    | convolution_distance_px | the distance to a key that convolutions of the same depth connect with the query |
    | uniform_distance_px | the distance to any key |
    | outside_field | the attention to keys that they do not connect |
    | uniform_outside_field | the fraction of keys that they do not connect |
    | entropy_bits | the entropy of a map; log2 M if uniform |
    | effective_keys | 2 to the power of the entropy |
    | self_attention | the attention to the query's own key |

    Args:
        maps: `AttentionMaps`.
        image_size: (height, width) in px.

    Returns:
        dict of floats, also with `layer`, `gamma`, `queries`, `keys` and `field_px`, the largest field.
    """
    scores = np.asarray(maps.scores, np.float64)
    distance, connected = cell_distances(maps.query_shape, maps.key_shape, image_size), _connected_keys(maps)
    entropy = -(scores * np.log2(np.where(scores > 0, scores, 1.0))).sum(-1)
    convolution = connected / connected.sum(1, keepdims=True)
    return {
        "layer": maps.layer,
        "gamma": maps.gamma,
        "queries": scores.shape[1],
        "keys": scores.shape[2],
        "field_px": float(max(field.sum(1).max() for field in maps.fields) * image_size[0] / maps.key_shape[0]),
        "distance_px": float((scores * distance).sum(-1).mean()),
        "convolution_distance_px": float((convolution * distance).sum(-1).mean()),
        "uniform_distance_px": float(distance.mean()),
        "outside_field": float((scores * ~connected).sum(-1).mean()),
        "uniform_outside_field": float((~connected).mean()),
        "entropy_bits": float(entropy.mean()),
        "effective_keys": float((2**entropy).mean()),
        "self_attention": float(scores[:, np.arange(scores.shape[1]), own_keys(maps)].mean()),
    }


def measure_symmetry(maps):
    """Measures the left-right symmetry of maps of symmetric images, such as those of the data set `mirror`.

    Args:
        maps: `AttentionMaps`.

    Returns:
        dict of floats. `mirror_agreement`: overlap of the map of a query and the mirrored map of the mirrored query, 1
        if they are equal. `mirrored_place`: attention to the 3x3 keys around the mirror image of the query, over
        queries that are not next to their mirror image; `uniform_mirrored_place`: that of a uniform map; `own_place`:
        attention to the 3x3 keys around the query. The last three are NaN if all queries are next to their mirror
        image, as with 2x2 keys.
    """
    (height, width), (rows, columns) = maps.query_shape, maps.key_shape
    scores = np.asarray(maps.scores, np.float64).reshape(-1, height, width, rows, columns)
    mirrored = scores[:, :, ::-1, :, ::-1]
    overlap = np.minimum(scores, mirrored).sum((-2, -1)).mean()
    near = _near(maps)  # (N, M)
    across = near.reshape(height, width, rows, columns)[..., ::-1].reshape(near.shape)
    separate = ~(near & across).any(1)
    if not separate.any():
        places = dict.fromkeys(("mirrored_place", "own_place", "uniform_mirrored_place"), math.nan)
        return {"mirror_agreement": float(overlap)} | places
    flat = scores.reshape(len(scores), height * width, -1)[:, separate]
    return {
        "mirror_agreement": float(overlap),
        "mirrored_place": float((flat * across[separate]).sum(-1).mean()),
        "own_place": float((flat * near[separate]).sum(-1).mean()),
        "uniform_mirrored_place": float(across[separate].mean()),
    }


def format_table(summary):
    """Formats dicts of `measure_attention`, with `network` and `pictures`, as a table: one line per layer."""
    columns = _COLUMNS
    if any("mirror_agreement" in row for row in summary):
        columns += _MIRROR_COLUMNS
    lines = [[title for title, _ in columns]]
    lines += [[cell.format(**row) for _, cell in columns] for row in summary]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def cell_distances(query_shape, key_shape, image_size):
    """Distances between the centers of each query's and each key's cell: (H*W, h*w) float64, px."""
    queries, keys = (_centers(shape, image_size) for shape in (query_shape, key_shape))
    return np.sqrt(((queries[:, None] - keys) ** 2).sum(-1))


def own_keys(maps):
    """The key whose cell contains each query: (N,) int."""
    (height, width), (rows, columns) = maps.query_shape, maps.key_shape
    row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
    return (row[:, None] * columns + column).ravel()


def _connected_keys(maps):
    """Which keys convolutions connect with each query: (N, M) bool."""
    rows, columns = maps.fields
    return (rows[:, None, :, None] & columns[None, :, None, :]).reshape(len(rows) * len(columns), -1)


def _near(maps):
    """Which keys are among the 3x3 around each query's own: (N, M) bool."""
    rows, columns = maps.key_shape
    own = np.stack(np.divmod(own_keys(maps), columns), -1)
    keys = np.stack(np.divmod(np.arange(rows * columns), columns), -1)
    return abs(own[:, None] - keys).max(-1) <= 1


def _centers(shape, image_size):
    axes = [(np.arange(size) + 0.5) * length / size for size, length in zip(shape, image_size)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
