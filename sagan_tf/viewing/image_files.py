"""Images as PNG, WebP and GIF files, by Pillow, and as MP4 files, by ffmpeg."""

import importlib
import io
import subprocess

import numpy as np
from PIL import Image

from sagan_tf.errors import UserError, install_hint, summarize
from sagan_tf.files.atomic import atomic_write, write_bytes
from sagan_tf.generation.pixels import to_levels

_FRAME_MILLISECONDS = 50  # GIF has a resolution of 10 ms.
_LONGEST_SIDES = {"GIF": 65535, "WEBP": 16383}  # px, of the formats


def to_pil(image):
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
    save_png(to_pil(image), path, optimize=True)


def save_animation(frames, path):
    """Writes an endless .gif or .webp file, or an .mp4 file, of 20 frames per second, atomically.

    Args:
        frames: List of two or more RGB PIL.Images of one size.
        path: Path, whose suffix is the format.

    Raises:
        ValueError: The suffix is another, or there are fewer than two frames.
        UserError: Frames are too large for the format; for .mp4, imageio-ffmpeg is not installed, or ffmpeg failed.
    """
    file_format = str(path).rpartition(".")[2].upper()
    if file_format not in ("GIF", "WEBP", "MP4") or len(frames) < 2:
        raise ValueError(
            "`path` must end in .gif, .webp or .mp4, and `frames` must be two or more. "
            f"Received: path={path}, {len(frames)} frames."
        )
    if file_format == "MP4":
        _save_mp4(frames, path)
        return
    (width, height), limit = frames[0].size, _LONGEST_SIDES[file_format]
    if max(width, height) > limit:
        raise UserError(
            f"{file_format.lower()}: a frame has {width} x {height} px, of at most {limit:,} per side. Choose fewer "
            "classes or columns."
        )
    if file_format == "GIF":
        # One palette for all frames; with a palette each, colors flicker.
        palette = _common_palette(frames)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        options = {"optimize": False, "disposal": 1}
    else:
        options = {"quality": 90}
    options |= {"save_all": True, "append_images": frames[1:], "duration": _FRAME_MILLISECONDS, "loop": 0}
    write_bytes(path, encode(frames[0], file_format, **options))


def check_animation(file_format):
    """Raises UserError if a format, such as `mp4`, needs a package that is not installed."""
    if file_format == "mp4":
        _ffmpeg()


def _ffmpeg():
    """Path of ffmpeg's program."""
    try:
        return importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # not installed; no program for this platform
        hint = f"{install_hint('video')} Or choose gif or webp."
        raise UserError(f"mp4: imageio-ffmpeg is not installed. {hint}") from None


def _save_mp4(frames, path):
    """Writes H.264 in the pixel format that every player shows; it has even sides only, so an odd one gets a pixel."""
    width, height = frames[0].size
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    raw = b"".join(np.pad(np.asarray(frame), padding, mode="edge").tobytes() for frame in frames)
    size, rate = f"{width + width % 2}x{height + height % 2}", str(1000 / _FRAME_MILLISECONDS)
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", rate, "-i", "-"]
    target = ["-c:v", "libx264", "-crf", "18", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    with atomic_write(path) as temporary_path:
        command = [_ffmpeg(), "-loglevel", "error", *source, *target, str(temporary_path)]
        done = subprocess.run(command, input=raw, capture_output=True)
        if done.returncode:
            raise UserError(f"mp4: ffmpeg failed: {summarize(done.stderr.decode(errors='replace'))}")


def _common_palette(frames):
    sample = frames[:: max(1, len(frames) // 8)]
    stacked = Image.new("RGB", (sample[0].width, sum(frame.height for frame in sample)))
    for i, frame in enumerate(sample):
        stacked.paste(frame, (0, i * frame.height))
    return stacked.quantize(256, method=Image.Quantize.MEDIANCUT)
