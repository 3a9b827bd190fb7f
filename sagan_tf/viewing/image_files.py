"""Images as PNG, WebP and GIF files; Pillow."""

import io

from PIL import Image

from sagan_tf.files.atomic import write_bytes
from sagan_tf.generation.pixels import to_levels

_FRAME_MILLISECONDS = 50  # GIF has a resolution of 10 ms.


def to_picture(image):
    """Converts an (H, W, 1 or 3) image, as for `to_levels`, to a PIL.Image in mode L or RGB."""
    levels = to_levels(image)
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def encode(picture, file_format, **options):
    """Returns the bytes of a file; `options` are those of PIL.Image.save."""
    file = io.BytesIO()
    picture.save(file, format=file_format, **options)
    return file.getvalue()


def save_png(picture, path, **options):
    """Writes a PIL.Image as a PNG file, atomically; creates the folder."""
    write_bytes(path, encode(picture, "PNG", **options))


def save_image(image, path):
    """Writes one (H, W, 1 or 3) image, as for `to_levels`, pixel by pixel as a PNG file."""
    save_png(to_picture(image), path, optimize=True)


def save_animation(frames, path):
    """Writes two or more RGB PIL.Images of one size as an endless .gif or .webp file."""
    file_format = str(path).rpartition(".")[2].upper()
    if file_format not in ("GIF", "WEBP") or len(frames) < 2:
        raise ValueError(
            "`path` must end in .gif or .webp, and `frames` must be two or more. "
            f"Received: path={path}, {len(frames)} frames."
        )
    if file_format == "GIF":
        # One palette for all frames; with a palette each, colours flicker.
        palette = _common_palette(frames)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        options = {"optimize": False, "disposal": 1}
    else:
        options = {"quality": 90}
    options |= {"save_all": True, "append_images": frames[1:], "duration": _FRAME_MILLISECONDS, "loop": 0}
    write_bytes(path, encode(frames[0], file_format, **options))


def _common_palette(frames):
    sample = frames[:: max(1, len(frames) // 8)]
    stacked = Image.new("RGB", (sample[0].width, sum(frame.height for frame in sample)))
    for i, frame in enumerate(sample):
        stacked.paste(frame, (0, i * frame.height))
    return stacked.quantize(256, method=Image.Quantize.MEDIANCUT)
