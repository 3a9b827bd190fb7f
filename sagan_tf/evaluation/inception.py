"""The Inception network of 2015, which published FIDs use: download, checks and preprocessing.

It is TF-GAN's SavedModel, https://tfhub.dev/tensorflow/tfgan/eval/inception/1: the graph of inception-2015-12-05 from
its resized input on, a function from images (B, 299, 299, 3) in [-1, 1] to `pool_3` (B, 2048) and `logits` (B, 1008).
"""

import gzip
import json
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import tensorflow as tf

from sagan_tf.errors import UserError, summarize
from sagan_tf.files.atomic import atomic_folder, write_text
from sagan_tf.files.cache import user_cache_folder
from sagan_tf.files.hashing import sha256
from sagan_tf.files.locks import exclusive
from sagan_tf.files.saved_models import FEATURE_OPERATIONS, checked_graph
from sagan_tf.files.untrusted import check_claim, read_json
from sagan_tf.utils.progress import progress_bar

URL = "https://tfhub.dev/tensorflow/tfgan/eval/inception/1?tf-hub-format=compressed"
INPUT_SIZE = 299  # px
_CLASSES = 1008
_FEATURES = 2048
_CHUNK = 1 << 20  # bytes


class InceptionUnavailable(UserError):
    """Inception is not in the cache and cannot be downloaded."""


def to_inception_input(images):
    """Resizes uint8 (B, H, W, 1 or 3) to (B, 299, 299, 3) and scales to (x - 128) / 128, as the graph of 2015 does.

    Its `ResizeBilinear` is TensorFlow 1's: output pixel i is at input position i * H / 299 or i * W / 299, without
    half-pixel centers or antialiasing. Other resizing methods change FIDs by whole points.

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
    """Computes features and class probabilities; the softmax is over all 1008 logits, as in published Inception Scores.

    Args:
        module: That of `load_inception`.
        images: (B, 299, 299, 3) float32 of `to_inception_input`.

    Returns:
        (features (B, 2048), probabilities (B, 1008)), float32.
    """
    outputs = module(images)
    return tf.reshape(outputs["pool_3"], [-1, _FEATURES]), tf.nn.softmax(outputs["logits"])


def load_inception(path=None, expected_hash=None):
    """Loads Inception from a path, or from the cache; downloads it into the cache if necessary.

    Args:
        path: Folder of the SavedModel, or its archive from TF-Hub (`.tar.gz`); None: the cache.
        expected_hash: str, SHA-256 of the folder in hexadecimal, or None for any.

    Returns:
        (callable module, SHA-256 of its folder).

    Raises:
        InceptionUnavailable: It is not in the cache and cannot be downloaded.
        UserError: There is no such file or folder, its hash is another, the cache has changed since the download, or it
            is not TF-GAN's Inception.
    """
    folder = _cached_folder() if path is None else _user_folder(Path(path))
    actual_hash = sha256(folder)
    if expected_hash is not None and actual_hash != expected_hash.lower():
        raise UserError(f"{folder}: the SHA-256 is {actual_hash}; --inception_sha256 is {expected_hash}.")
    try:
        if path is not None and expected_hash is None:  # otherwise its origin vouches for it
            checked_graph(folder, FEATURE_OPERATIONS)
        module = tf.saved_model.load(str(folder))
        outputs = module(tf.zeros((1, INPUT_SIZE, INPUT_SIZE, 3)))
        valid = tf.size(outputs["pool_3"]) == _FEATURES and tuple(outputs["logits"].shape) == (1, _CLASSES)
    except Exception as error:  # The loader raises anything for a folder of other files.
        raise UserError(f"{folder}: this is not TF-GAN's Inception: {summarize(error)}") from None
    if not valid:
        raise UserError(f"{folder}: this is not TF-GAN's Inception; its outputs have other shapes.")
    return module, actual_hash


def _user_folder(path):
    if path.is_dir():
        return path
    if not path.is_file():
        raise UserError(f"--inception: there is no file or folder {path}.")
    # Unpacked once, into the cache.
    folder = user_cache_folder() / f"inception-{sha256(path)[:16]}"
    if not folder.is_dir():
        _unpack(path, folder)
    return folder


def _cached_folder():
    folder = user_cache_folder() / "inception"
    record = folder.with_name("inception.json")
    if _is_cached(folder, record):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(f"{folder}.lock", notice="Another process downloads Inception; waiting for it."):
            if not _is_cached(folder, record):
                _fetch(folder, record)
    except (OSError, urllib.error.URLError) as error:
        reason = summarize(error)
        raise InceptionUnavailable(
            f"The Inception network cannot be downloaded ({reason}). Download {URL} elsewhere and pass the file or its "
            "folder as --inception PATH, or choose another network with --features my.keras:layer, whose distances "
            "are not FIDs."
        ) from None
    return folder


def _is_cached(folder, record):
    content = read_json(record) if record.is_file() else None
    if not folder.is_dir() or not isinstance(content, dict):
        return False
    if content.get("sha256") != sha256(folder):
        raise UserError(f"{folder}: it has changed since the download (SHA-256). Delete it to download it again.")
    return True


def _fetch(folder, record):
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary_folder:
        archive = Path(temporary_folder) / "inception.tar.gz"
        _download(URL, archive)
        _unpack(archive, folder)
        write_text(record, json.dumps({"url": URL, "sha256": sha256(folder)}) + "\n")


def _download(url, path):
    request = urllib.request.Request(url, headers={"User-Agent": "sagan_tf"})
    with urllib.request.urlopen(request, timeout=30) as response, open(path, "wb") as file:
        total = int(response.headers.get("Content-Length") or 0) or None
        with progress_bar(total=total, unit="B", unit_scale=True, desc="downloading Inception") as bar:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))


def _unpack(archive, folder):
    try:
        with atomic_folder(folder) as temporary_folder, tarfile.open(archive, "r:gz") as file:
            claimed_bytes = 0
            for member in file:
                claimed_bytes += member.size
                check_claim(archive, claimed_bytes)
            file.extractall(temporary_folder, filter="data")
            while file.fileobj.read(_CHUNK):  # to its end, where gzip compares its checksum
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise UserError(f"{archive}: not a complete archive: {summarize(error)}") from None
