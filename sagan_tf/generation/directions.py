"""Directions of the latent space along which a generator's images change the most."""

import keras
import numpy as np

from sagan_tf.errors import check_positive_int
from sagan_tf.generation.sampler import Sampler

_SEEDS = 16
_STEP = 2.0  # standard deviations of the latent to either side
_NOTABLE = 0.5  # standard deviations of an attribute over images


def principal_directions(folded, count=6):
    """Finds the directions of the latent that the first layer of a generator stretches the most.

    The first layer maps a latent z to z W + b, so that a step n moves its output by n W, whatever z is. The unit
    vectors n with the longest n W are the eigenvectors of W W^T.

    Args:
        folded: `FoldedGenerator`, of latents of D dimensions.
        count: int >= 1, number of directions; D at most.

    Returns:
        (K, D) float32: orthonormal rows, the most stretched first; the entry of largest size in each is positive. K is
        `count`, or D if that is less, and 0 if the first layer is not a `Dense`.

    Raises:
        ValueError: `count` is not an integer >= 1.

    Source: Shen and Zhou 2021, "Closed-Form Factorization of Latent Semantics in GANs", equation 4.
    """
    check_positive_int("count", count)
    latent = folded.model.inputs[0]
    for layer in folded.model.layers:
        if isinstance(layer, keras.layers.Dense) and layer.input is latent:
            kernel = np.float64(keras.ops.convert_to_numpy(layer.kernel))
            directions = np.linalg.eigh(kernel @ kernel.T)[1].T[::-1][:count]
            largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1)
            return np.float32(directions * np.sign(largest))
    return np.zeros((0, folded.latent_dim), np.float32)


def name_directions(folded, directions):
    """Names directions after what they change the most, and turns them so that it grows with the latent.

    An attribute, such as brightness, is a number of an image. Its change is the mean over images of its difference
    between two steps along a direction and two against it, in standard deviations of the attribute over images. Each
    attribute names one direction at most; directions that change none by half a standard deviation are numbered.

    Args:
        folded: `FoldedGenerator`.
        directions: (K, D) float32.

    Returns:
        (list of K str, (K, D) float32: each direction or its negative).
    """
    changes = _changes(folded, directions)
    names, signs = [f"direction {i + 1}" for i in range(len(directions))], np.ones(len(directions), np.float32)
    left = np.abs(changes)
    while left.size and left.max() >= _NOTABLE:
        i, j = np.unravel_index(left.argmax(), left.shape)
        names[i], signs[i] = _ATTRIBUTES[j], np.sign(changes[i, j])
        left[i], left[:, j] = 0, 0
    return names, directions * signs[:, None]


def _changes(folded, directions):
    """(K, attributes) float64."""
    steps = np.concatenate([np.zeros((1, folded.latent_dim)), _STEP * directions, -_STEP * directions])
    seeds, classes = np.arange(_SEEDS), folded.num_classes
    labels = None if classes is None else np.tile(np.resize(np.arange(classes), _SEEDS), len(steps))
    sampler = Sampler(folded, outputs=lambda images: (images,), show_progress=False)
    images = sampler.sample_moved(np.tile(seeds, len(steps)), labels, np.repeat(steps, _SEEDS, axis=0))
    attributes = _attributes(images).reshape(len(steps), _SEEDS, -1)
    still, forward, backward = np.split(attributes, [1, 1 + len(directions)])
    return (forward - backward).mean(1) / (still[0].std(0) + 1e-3)


_ATTRIBUTES = (
    "brightness",
    "contrast",
    "saturation",
    "red to blue",
    "magenta to green",
    "detail",
    "left to right",
    "top to bottom",
)


def _attributes(images):
    """The `_ATTRIBUTES` (N, 8) of images (N, H, W, 1 or 3) in [-1, 1]."""
    images = np.broadcast_to((np.float64(images) + 1) / 2, (*images.shape[:3], 3))
    red, green, blue = np.moveaxis(images, -1, 0)
    gray = images @ [0.299, 0.587, 0.114]
    change = np.abs(np.diff(gray, axis=1)).mean((1, 2)) + np.abs(np.diff(gray, axis=2)).mean((1, 2))
    # The center of mass of what differs from the background.
    figure = np.abs(gray - np.median(gray, (1, 2), keepdims=True)) + 1e-9
    mass = figure.sum((1, 2))
    across, down = np.linspace(0, 1, gray.shape[2]), np.linspace(0, 1, gray.shape[1])
    columns = [
        gray.mean((1, 2)),
        gray.std((1, 2)),
        (images.max(-1) - images.min(-1)).mean((1, 2)),
        (blue - red).mean((1, 2)),
        (green - (red + blue) / 2).mean((1, 2)),
        change,
        figure.sum(1) @ across / mass,
        figure.sum(2) @ down / mass,
    ]
    return np.stack(columns, 1)
