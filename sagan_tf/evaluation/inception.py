"""The Inception network of 2015 that published FIDs are made with: had, checked, fed as the original is.

It is TF-GAN's SavedModel, https://tfhub.dev/tensorflow/tfgan/eval/inception/1: the graph of inception-2015-12-05 from
its resized input on, a function from pictures (B, 299, 299, 3) in [-1, 1] to `pool_3` (B, 2048) and `logits` (B, 1008).
"""

import json
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import tensorflow as tf
from tqdm.auto import tqdm

from sagan_tf.errors import UserError
from sagan_tf.files.atomic import atomic_folder, write_text
from sagan_tf.files.hashing import sha256

URL = "https://tfhub.dev/tensorflow/tfgan/eval/inception/1?tf-hub-format=compressed"
INPUT_SIZE = 299  # px
_CLASSES = 1008
_FEATURES = 2048
_CHUNK = 1 << 20  # bytes


def cache_folder():
    """Names the folder for what is fetched or computed once: `SAGAN_TF_CACHE`, or `sagan_tf` in the user's cache.

    Returns:
        pathlib.Path.
    """
    named = os.environ.get("SAGAN_TF_CACHE")
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else users / "sagan_tf"


def to_inception_input(images):
    """Makes of pictures what the graph of 2015 makes of them before its first convolution.

    Its `ResizeBilinear` is TensorFlow 1's: output pixel i lies at input position i * S / 299, without the half pixel
    and without antialiasing. Other resizings move FIDs by whole points.

    Args:
        images: uint8 (B, S, S, C), C 1 or 3.

    Returns:
        (B, 299, 299, 3) float32, (x - 128) / 128.

    Source: Parmar et al. 2022, section 3, https://arxiv.org/abs/2104.11222.
    """
    images = tf.cast(images, tf.float32)
    if images.shape[-1] == 1:
        images = tf.repeat(images, 3, axis=-1)
    resized = tf.compat.v1.image.resize_bilinear(
        images, [INPUT_SIZE, INPUT_SIZE], align_corners=False, half_pixel_centers=False
    )
    return (resized - 128.0) / 128.0


def inception_outputs(module, images):
    """Runs the network.

    Args:
        module: As of `load_inception`.
        images: (B, 299, 299, 3) float32.

    Returns:
        (features (B, 2048), probabilities (B, 1008)), float32. The softmax is over all 1008 logits, as in the
        published Inception scores.
    """
    found = module(images)
    return tf.reshape(found["pool_3"], [-1, _FEATURES]), tf.nn.softmax(found["logits"])


def load_inception(path=None, wanted_hash=None):
    """Loads Inception from a path, from the cache, or fetches it into the cache.

    Args:
        path: Folder of the SavedModel, or its archive as TF-Hub gives it (`.tar.gz`); None: the cache.
        wanted_hash: SHA-256 of the folder that is wanted, or None.

    Returns:
        (callable module, SHA-256 of its folder).

    Raises:
        UserError: It is not to be had, has changed in the cache, has another hash than wanted, or is another network.
    """
    folder = _cached() if path is None else _given(Path(path))
    found_hash = sha256(folder)
    if wanted_hash is not None and found_hash != wanted_hash.lower():
        raise UserError(f"{folder}: its SHA-256 is {found_hash}, and --inception_sha256 wants {wanted_hash}.")
    try:
        module = tf.saved_model.load(str(folder))
        found = module(tf.zeros((1, INPUT_SIZE, INPUT_SIZE, 3)))
        fits = tf.size(found["pool_3"]) == _FEATURES and tuple(found["logits"].shape) == (1, _CLASSES)
    except Exception as error:  # a folder of anything makes the loader and the network raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: this is not TF-GAN's Inception: {reason}") from None
    if not fits:
        raise UserError(f"{folder}: this is not TF-GAN's Inception; its outputs have other shapes.")
    return module, found_hash


def _given(path):
    if path.is_dir():
        return path
    if not path.is_file():
        raise UserError(f"--inception: there is no file or folder {path}.")
    # Beside the cache of what was fetched: an archive is unpacked once.
    folder = cache_folder() / f"inception-{sha256(path)[:16]}"
    if not folder.is_dir():
        _unpack(path, folder)
    return folder


def _cached():
    folder = cache_folder() / "inception"
    known = folder.with_name("inception.json")
    if not folder.is_dir() or not known.is_file():
        _fetch(folder, known)
    elif json.loads(known.read_text(encoding="utf-8")).get("sha256") != sha256(folder):
        raise UserError(f"{folder}: it has changed since it was fetched (SHA-256); delete it, and it is fetched anew.")
    return folder


def _fetch(folder, known):
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as beside:
            archive = Path(beside) / "inception.tar.gz"
            _download(URL, archive)
            _unpack(archive, folder)
            write_text(known, json.dumps({"url": URL, "sha256": sha256(folder)}) + "\n")
    except (OSError, urllib.error.URLError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"The Inception network that FIDs are made with cannot be fetched ({reason}). Download {URL} elsewhere and "
            "give the file or its folder with --inception PATH, or choose another network with --features "
            "my.keras:layer; its numbers are no FIDs."
        ) from None


def _download(url, path):
    request = urllib.request.Request(url, headers={"User-Agent": "sagan_tf"})
    with urllib.request.urlopen(request, timeout=30) as answer, open(path, "wb") as file:
        total = int(answer.headers.get("Content-Length") or 0) or None
        with tqdm(total=total, unit="B", unit_scale=True, desc="fetching Inception") as bar:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


def _unpack(archive, folder):
    try:
        with atomic_folder(folder) as temporary_folder, tarfile.open(archive) as file:
            file.extractall(temporary_folder, filter="data")
    except (tarfile.TarError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{archive}: this is no whole archive: {reason}") from None
