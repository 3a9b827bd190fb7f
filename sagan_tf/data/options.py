"""The options of a data set: which images to read and how to prepare them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Resize = Literal["bilinear", "area", "bicubic", "lanczos3"]
Corrupt = Literal["stop", "skip"]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which images to read and how to prepare them.

    `config.DataConfig` is this class; the descriptions of the fields are the help of their flags.

    Args:
        name: `twins` or `mirror` (embedded, nothing to download), a TensorFlow Datasets name such as `cifar10` or
            `imagenet2012`, or the path of a folder of images or of `sagan prepare`.
        split: Split to train on; for TensorFlow Datasets also a slice such as `train[:90%]`, for a folder a subfolder
            such as `train`.
        data_dir: Folder of prepared TensorFlow Datasets; null for its default (~/tensorflow_datasets).
        manual_dir: Folder of archives that must be downloaded by hand, as for imagenet2012.
        download: Let TensorFlow Datasets download a data set that is not prepared in `data_dir`.
        image_size: Height and width in px of square images, after the central crop and resize: 32, 64, 128, 256, or
            another size of 3 to 7 times 8, 16, 32 or 64 px, such as 96.
        image_height: Height in px of images that are not square, with image_width in place of image_size, such as 64
            and 96. The smaller side is 3 to 7 times 8, 16, 32 or 64 px, the larger a multiple of the same number.
        image_width: Width in px; see image_height.
        image_channels: 1 (gray) or 3 (RGB).
        conditional: Train on class labels; null: if the data set has two classes or more.
        resize: Resize filter, antialiased.
        flip: Mirror images left to right at random (not for text or digits).
        dequantize: Add uniform noise of one gray level, so that values are continuous; rounding removes it exactly.
        corrupt: `stop` at unreadable images of a folder, or `skip` and list them; other sources always stop.
        memory_limit_gib: Keep data sets up to this size, decoded, in memory (GiB).
    """

    name: str = "twins"
    split: str = "train"
    data_dir: str | None = None
    manual_dir: str | None = None
    download: bool = False
    image_size: int = 128
    image_height: int | None = None
    image_width: int | None = None
    image_channels: int = 3
    conditional: bool | None = None
    resize: Resize = "bilinear"
    flip: bool = False
    dequantize: bool = False
    corrupt: Corrupt = "stop"
    memory_limit_gib: float = 2.0

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the prepared images."""
        if self.image_height is None or self.image_width is None:
            return self.image_size, self.image_size, self.image_channels
        return self.image_height, self.image_width, self.image_channels
