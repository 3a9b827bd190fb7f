"""Where to look from: positions that stand for the parts of what a picture shows; NumPy alone."""

import numpy as np

_ROUNDS = 50  # Of the clustering; a few suffice on maps of this size.
_PLACE = 0.8  # Weight of a position's place against its features, in standard deviations.
_FLOOR = 0.02  # Weight of a position that looks like the border, against one that does not at all.


def choose_points(features, image, count=5):
    """Chooses query points by clustering the positions of a feature map.

    Positions are clustered by their features, by the picture there, and by where they are (k-means from farthest
    points). Features alone miss parts of an object that a layer does not tell apart yet. What differs
    from the picture's border counts more, so that most clusters lie on the object and few on its surroundings. The
    point of a cluster is the position most like its centre and best surrounded by its like.

    Args:
        features: (H, W, C) floating point, a feature map of one picture.
        image: (S, S, channels), the picture, any scale; S a multiple of H and W.
        count: int >= 1, K, at most H*W.

    Returns:
        list of K (row, column), different from one another, the most conspicuous first.

    Raises:
        ValueError: There are fewer positions than points.

    Source: Zhang et al. 2019, section 4.2, which shows "representative query locations" and does not say how they are
        found; k-means: Lloyd 1982, with starts as in Gonzalez 1985.
    """
    height, width, _ = features.shape
    if not 1 <= count <= height * width:
        raise ValueError(f"`count` must be in 1 .. {height * width}. Received: {count=}.")
    size, _, channels = np.shape(image)
    cells = np.asarray(image, np.float64).reshape(height, size // height, width, size // width, channels).mean((1, 3))
    values = np.concatenate([_standardized(features), _standardized(cells)], axis=1)
    place = np.stack(np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij"), -1)
    points = np.concatenate([values, _PLACE * place.reshape(-1, 2)], axis=1)
    weight = _conspicuous(values.reshape(height, width, -1))
    cluster, centres = _k_means(points, weight, count)
    chosen = []
    for k in np.argsort([-weight[cluster == k].mean() if (cluster == k).any() else 0 for k in range(count)]):
        inside = _neighbours((cluster == k).reshape(height, width).astype(float))
        distance = ((points - centres[k]) ** 2).sum(1)
        badness = distance / (distance[cluster == k].mean() + 1e-12 if (cluster == k).any() else 1.0) - 2 * inside
        badness[[row * width + column for row, column in chosen]] = np.inf
        chosen.append(divmod(int(badness.argmin()), width))
    return chosen


def _standardized(maps):
    """(N, C) with mean 0 and, summed over channels, variance 1: a channel that hardly varies has little to say."""
    values = np.asarray(maps, np.float64).reshape(-1, maps.shape[-1])
    values = values - values.mean(0)
    return values / (np.sqrt((values**2).sum(1).mean()) + 1e-12)


def _conspicuous(values):
    """How much each position differs from the border of the map, (N,) in _FLOOR .. 1."""
    border = np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])
    distance = np.sqrt(((values - np.median(border, axis=0)) ** 2).sum(-1)).ravel()
    highest = distance.max()
    return np.full(distance.shape, 1.0) if highest < 1e-9 else np.maximum(distance / highest, _FLOOR) ** 2


def _k_means(points, weight, count):
    centres = [points[np.argmax(weight)]]
    nearest = ((points - centres[0]) ** 2).sum(1)
    for _ in range(count - 1):
        centres.append(points[np.argmax(nearest * weight)])
        nearest = np.minimum(nearest, ((points - centres[-1]) ** 2).sum(1))
    centres, cluster = np.stack(centres), None
    for _ in range(_ROUNDS):
        before = cluster
        cluster = ((points[:, None] - centres) ** 2).sum(-1).argmin(1)
        if before is not None and (before == cluster).all():
            break
        for k in range(count):
            mine = cluster == k
            if mine.any():
                centres[k] = np.average(points[mine], axis=0, weights=weight[mine])
    return cluster, centres


def _neighbours(inside):
    """Share of the 3x3 positions around each that are inside, (N,)."""
    height, width = inside.shape
    padded = np.pad(inside, 1)
    return sum(padded[i : i + height, j : j + width] for i in range(3) for j in range(3)).ravel() / 9
