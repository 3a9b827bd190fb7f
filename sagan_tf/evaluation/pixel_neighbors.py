"""Nearest neighbors of images by their pixels, which need no feature network."""

import numpy as np

from sagan_tf.utils.progress import progress_bar

REDUCED_SIZE = 32  # px; larger images are averaged down to about this
_BLOCK = 1024  # images; of 256 px, 200 MB


def pixel_neighbors(queries, reader, count, limit):
    """Finds the images of a data set that are nearest to others by their pixels; shows a bar if there are many.

    Args:
        queries: (N, H, W, C) uint8.
        reader: `data.readers.Reader` of M images of the same shape.
        count: int >= 1, neighbors per image; at most `limit` and M.
        limit: int, images to search; of a larger data set, evenly spaced ones.

    Returns:
        (root mean square difference in levels of 0 to 255, index in the data set): (N, count) each, nearest first.
    """
    queries, limit = _reduced(queries), min(limit, reader.num_images)
    squares, indices = np.empty((len(queries), 0)), np.empty((len(queries), 0), int)
    is_short = limit <= _BLOCK
    with progress_bar(total=limit, unit="img", desc="comparing pixels", leave=False, disable=is_short) as bar:
        for block_indices, block in _blocks(reader, limit):
            squares = np.concatenate([squares, _squared_distances(queries, block)], axis=1)
            indices = np.concatenate([indices, np.tile(block_indices, (len(queries), 1))], axis=1)
            order = np.argsort(squares, axis=1, kind="stable")[:, :count]
            squares, indices = (np.take_along_axis(each, order, axis=1) for each in (squares, indices))
            bar.update(len(block))
    return np.sqrt(squares / queries.shape[1]), indices


def _squared_distances(first, second):
    lengths = [np.square(rows).sum(axis=1) for rows in (first, second)]
    return np.maximum(lengths[0][:, None] + lengths[1] - 2.0 * first @ second.T, 0.0)


def _blocks(reader, limit):
    """Yields (indices, reduced images (n, D)) of `limit` images of a data set."""
    if limit == reader.num_images:
        for start, (images, *_) in enumerate(reader.in_order_batches(_BLOCK)):
            yield start * _BLOCK + np.arange(len(images)), _reduced(images)
        return
    chosen = np.linspace(0, reader.num_images - 1, limit).astype(int)
    for first in range(0, limit, _BLOCK):
        block = chosen[first : first + _BLOCK]
        yield block, _reduced(reader.load(block))


def _reduced(images):
    """Averages images down to about `REDUCED_SIZE`: (N, D) float64."""
    count, height, width, channels = images.shape
    factor = max(1, min(height, width) // REDUCED_SIZE)
    rows, columns = height // factor, width // factor
    blocks = images[:, : rows * factor, : columns * factor].reshape(count, rows, factor, columns, factor, channels)
    return blocks.mean((2, 4), dtype=np.float64).reshape(count, -1)
