"""What the tests of prepared data share."""

from sagan_tf.data import preparing
from sagan_tf.data.options import DataOptions

COUNT = 40
ON_DISK = {"memory_limit_gib": 0.0}


def make_shards_small(patch):
    """Shards and batches of 16 images, by a `MonkeyPatch`."""
    patch.setattr(preparing, "_SHARD_IMAGES", 16)
    patch.setattr(preparing, "TOGETHER", 16)


def run(source, out, encoding="raw", quality=None, **options):
    options = DataOptions(**{"name": str(source), "image_size": 32, **options})
    return preparing.prepare(options, out, encoding, quality, show_progress=False)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
