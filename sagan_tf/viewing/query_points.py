"""Chooses query points that represent the parts of an image; NumPy."""

import numpy as np

_ITERATIONS = 50  # of k-means at most; a few suffice for maps of this size
_POSITION_WEIGHT = 0.8  # of coordinates against features, in standard deviations
_MIN_WEIGHT = 0.02  # of a position that looks like the border, against 1 for one that differs most


def choose_points(features, image, count=5):
    """Chooses query points by clustering the positions of a feature map.

    k-means on features, pixels and coordinates; features alone miss parts of an object that the layer does not
    distinguish yet. Positions that differ from the border of the image weigh more, so that most clusters are on the
    object. The point of a cluster is close to its center and surrounded by positions of the same cluster.

    Args:
        features: (H, W, C) floating point, a feature map of one image.
        image: (h, w, channels), the image at any scale; h is a multiple of H, w of W.
        count: int >= 1, K, at most H*W.

    Returns:
        list of K distinct (row, column), the most salient first.

    Raises:
        ValueError: There are fewer positions than points.

    Source: Zhang et al. 2019, section 4.2, which does not say how its "representative query locations" are chosen;
        k-means of Lloyd 1982, initialized as in Gonzalez 1985.
    """
    height, width, _ = features.shape
    if not 1 <= count <= height * width:
        raise ValueError(f"`count` must be in 1 .. {height * width}. Received: {count=}.")
    rows, columns, channels = np.shape(image)
    shape = (height, rows // height, width, columns // width, channels)
    cells = np.asarray(image, np.float64).reshape(shape).mean((1, 3))
    values = np.concatenate([_standardized(features), _standardized(cells)], axis=1)
    coordinates = np.stack(np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij"), -1)
    points = np.concatenate([values, _POSITION_WEIGHT * coordinates.reshape(-1, 2)], axis=1)
    weight = _saliency(values.reshape(height, width, -1))
    cluster, centers = _k_means(points, weight, count)
    members = [cluster == k for k in range(count)]
    chosen = []
    for k in np.argsort([-weight[mask].mean() if mask.any() else 0 for mask in members]):
        distance = ((points - centers[k]) ** 2).sum(1)
        mean_distance = distance[members[k]].mean() + 1e-12 if members[k].any() else 1.0
        cost = distance / mean_distance - 2 * _neighbors(members[k].reshape(height, width).astype(float))
        cost[[row * width + column for row, column in chosen]] = np.inf
        chosen.append(divmod(int(cost.argmin()), width))
    return chosen


def _standardized(maps):
    """(N, C) with mean 0 and a variance of 1 in total, so that channels that hardly vary weigh little."""
    values = np.asarray(maps, np.float64).reshape(-1, maps.shape[-1])
    values = values - values.mean(0)
    return values / (np.sqrt((values**2).sum(1).mean()) + 1e-12)


def _saliency(values):
    """How much each position differs from the border of the map: (N,), up to 1."""
    border = np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])
    distance = np.sqrt(((values - np.median(border, axis=0)) ** 2).sum(-1)).ravel()
    highest = distance.max()
    return np.full(distance.shape, 1.0) if highest < 1e-9 else np.maximum(distance / highest, _MIN_WEIGHT) ** 2


def _k_means(points, weight, count):
    centers = [points[np.argmax(weight)]]
    nearest = ((points - centers[0]) ** 2).sum(1)
    for _ in range(count - 1):
        centers.append(points[np.argmax(nearest * weight)])
        nearest = np.minimum(nearest, ((points - centers[-1]) ** 2).sum(1))
    centers, cluster = np.stack(centers), None
    for _ in range(_ITERATIONS):
        before = cluster
        cluster = ((points[:, None] - centers) ** 2).sum(-1).argmin(1)
        if before is not None and (before == cluster).all():
            break
        for k in range(count):
            members = cluster == k
            if members.any():
                centers[k] = np.average(points[members], axis=0, weights=weight[members])
    return cluster, centers


def _neighbors(mask):
    """The fraction of the 3x3 positions around each one that are in the mask: (N,)."""
    height, width = mask.shape
    padded = np.pad(mask, 1)
    return sum(padded[i : i + height, j : j + width] for i in range(3) for j in range(3)).ravel() / 9
