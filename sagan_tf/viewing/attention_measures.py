"""Attention maps in numbers: how far, how spread, how much beyond convolutions, how symmetric; NumPy alone."""

import numpy as np


def measure(maps, image_size):
    """Measures the maps of a layer.

    Symbols: B pictures, N queries, M keys, S image size in px; lengths are in px of the picture.

    | name | mean over pictures and queries of |
    |---|---|
    | distance_px | the attention-weighted distance from query to key |
    | convolution_distance_px | the distance to a key of the field that convolutions of the same depth join it with |
    | uniform_distance_px | the distance to any key |
    | outside_field | the attention on keys outside that field |
    | uniform_outside_field | the share of keys outside that field |
    | entropy_bits | the entropy of a map; log2 M for a uniform one |
    | effective_keys | 2 to the entropy |
    | self_attention | the attention on the query's own key |

    Args:
        maps: `AttentionMaps`.
        image_size: int, S.

    Returns:
        dict, also with `layer`, `gamma`, `queries`, `keys` and `field_px`, the widest field.
    """
    scores = np.asarray(maps.scores, np.float64)
    distance, joined = distances(maps.query_shape, maps.key_shape, image_size), joined_keys(maps)
    safe = np.where(scores > 0, scores, 1.0)
    entropy = -(scores * np.log2(safe)).sum(-1)
    shares = joined / joined.sum(1, keepdims=True)
    return {
        "layer": maps.layer,
        "gamma": maps.gamma,
        "queries": scores.shape[1],
        "keys": scores.shape[2],
        "field_px": float(maps.field.sum(1).max() * image_size / maps.key_shape[0]),
        "distance_px": float((scores * distance).sum(-1).mean()),
        "convolution_distance_px": float((shares * distance).sum(-1).mean()),
        "uniform_distance_px": float(distance.mean()),
        "outside_field": float((scores * ~joined).sum(-1).mean()),
        "uniform_outside_field": float((~joined).mean()),
        "entropy_bits": float(entropy.mean()),
        "effective_keys": float((2**entropy).mean()),
        "self_attention": float(scores[:, np.arange(scores.shape[1]), own_key(maps)].mean()),
    }


def measure_symmetry(maps):
    """Measures how symmetric left to right the maps of symmetric pictures are, such as those of the data set `mirror`.

    Args:
        maps: `AttentionMaps`.

    Returns:
        dict. `mirror_agreement`: how far the map of a query and the mirrored map of the mirrored query overlap, 1 where
        they are one. `mirrored_place`: the attention on the 3x3 keys around the query's mirror image, over queries
        whose mirror image is not next to them; `uniform_mirrored_place`: that of a uniform map; `own_place`: on the
        3x3 keys around the query itself.
    """
    (height, width), (rows, columns) = maps.query_shape, maps.key_shape
    scores = np.asarray(maps.scores, np.float64).reshape(-1, height, width, rows, columns)
    mirrored = scores[:, :, ::-1, :, ::-1]
    overlap = np.minimum(scores, mirrored).sum((-2, -1)).mean()
    near = _near(maps)  # (N, M)
    across = near.reshape(height, width, rows, columns)[..., ::-1].reshape(near.shape)
    apart = ~(near & across).any(1)
    flat = scores.reshape(len(scores), height * width, -1)[:, apart]
    return {
        "mirror_agreement": float(overlap),
        "mirrored_place": float((flat * across[apart]).sum(-1).mean()),
        "own_place": float((flat * near[apart]).sum(-1).mean()),
        "uniform_mirrored_place": float(across[apart].mean()),
    }


def figures_table(summary):
    """Writes the figures of all layers as lines for the terminal.

    Args:
        summary: list of dicts of `measure`, with `network` and `pictures`.

    Returns:
        str.
    """
    heads = (
        "network", "layer", "pictures", "gamma", "distance px", "convolution", "uniform", "beyond field", "uniform",
        "entropy bits", "effective keys",
    )
    lines = [[
        each["network"], each["layer"], each["pictures"], f"{each['gamma']:.3f}", f"{each['distance_px']:.1f}",
        f"{each['convolution_distance_px']:.1f}", f"{each['uniform_distance_px']:.1f}", f"{each['outside_field']:.0%}",
        f"{each['uniform_outside_field']:.0%}", f"{each['entropy_bits']:.2f}",
        f"{each['effective_keys']:.1f} of {each['keys']}",
    ] for each in summary]
    if any("mirror_agreement" in each for each in summary):
        heads += ("mirror agreement", "mirrored place", "uniform")
        lines = [line + [f"{each['mirror_agreement']:.2f}", f"{each['mirrored_place']:.0%}",
                         f"{each['uniform_mirrored_place']:.0%}"] for line, each in zip(lines, summary)]
    widths = [max(map(len, column)) for column in zip(heads, *lines)]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip()
                     for line in [heads, *lines])


def distances(query_shape, key_shape, image_size):
    """Distances from the middle of each query's cell to the middle of each key's.

    Args:
        query_shape: (H, W).
        key_shape: (h, w).
        image_size: int, px.

    Returns:
        (H*W, h*w) float64, px.
    """
    queries, keys = (_centres(shape, image_size) for shape in (query_shape, key_shape))
    return np.sqrt(((queries[:, None] - keys) ** 2).sum(-1))


def joined_keys(maps):
    """Which keys the convolutions on the picture's side join a query with.

    Args:
        maps: `AttentionMaps`.

    Returns:
        (N, M) bool.
    """
    field = maps.field
    return (field[:, None, :, None] & field[None, :, None, :]).reshape(len(field) ** 2, -1)


def own_key(maps):
    """The key in whose cell each query lies.

    Args:
        maps: `AttentionMaps`.

    Returns:
        (N,) int.
    """
    (height, width), (rows, columns) = maps.query_shape, maps.key_shape
    row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
    return (row[:, None] * columns + column).ravel()


def _near(maps):
    """Which keys are among the 3x3 around a query's own, (N, M) bool."""
    rows, columns = maps.key_shape
    own = np.stack(np.divmod(own_key(maps), columns), -1)
    keys = np.stack(np.divmod(np.arange(rows * columns), columns), -1)
    return abs(own[:, None] - keys).max(-1) <= 1


def _centres(shape, image_size):
    axes = [(np.arange(size) + 0.5) * image_size / size for size in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
