"""Image files hold the given pixels and appear only when complete."""

import subprocess

import numpy as np
import pytest
from PIL import Image, ImageSequence
from viewing.plain_images import plain_images

from sagan_tf.errors import UserError
from sagan_tf.viewing.image_files import save_animation, save_image
from sagan_tf.viewing.image_grids import Table, draw_table, save_table


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_saved_animation_repeats_all_frames_forever(tmp_path, ending):
    frames = [draw_table(Table(plain_images(1, 2, seed=seed), ("",))) for seed in range(5)]
    save_animation(frames, tmp_path / f"path.{ending}")
    with Image.open(tmp_path / f"path.{ending}") as file:
        assert file.info.get("loop") == 0
        loaded = [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(file)]
    assert len(loaded) == 5
    for frame, expected in zip(loaded, frames):
        # A GIF has 256 colors for all frames; plain colors stay close.
        assert abs(frame - np.asarray(expected).astype(int)).mean() < 3


@pytest.mark.parametrize("sides", [(32, 40), (31, 41)])
def test_saved_video_has_all_frames_in_even_sides(tmp_path, sides):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="needs the extra `video`")
    # Smooth, since videos halve the resolution of colors.
    ramp = np.linspace(0, 1, sides[0])[:, None, None] * np.linspace(0, 1, sides[1])[:, None] * [200, 100, 50]
    frames = [Image.fromarray((ramp + 10 * i).astype(np.uint8)) for i in range(5)]
    save_animation(frames, tmp_path / "path.mp4")
    assert ffmpeg.count_frames_and_secs(tmp_path / "path.mp4") == (5, 0.25)
    command = [ffmpeg.get_ffmpeg_exe(), "-i", tmp_path / "path.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    loaded = np.frombuffer(raw, np.uint8).reshape(5, sides[0] + sides[0] % 2, sides[1] + sides[1] % 2, 3)
    for image, frame in zip(loaded[:, : sides[0], : sides[1]], frames):
        assert abs(image.astype(int) - np.asarray(frame)).mean() < 3


def test_saved_animation_rejects_unknown_file_format(tmp_path):
    frames = [draw_table(Table(plain_images(1, 1), ("",)))] * 2
    with pytest.raises(ValueError, match="Received"):
        save_animation(frames, tmp_path / "path.avi")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("channels", [1, 3])
def test_saved_image_keeps_every_pixel(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 255, (5, 5, channels), dtype=np.uint8)
    save_image(image, tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as file:
        np.testing.assert_array_equal(np.asarray(file).reshape(image.shape), image)


def test_saved_image_leaves_no_file_when_writing_fails(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="full"):
        save_table(Table(plain_images(1, 1), ("",)), tmp_path / "table.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending, sides", [("webp", (16384, 1)), ("gif", (1, 65536))])
def test_saved_animation_refuses_frames_too_large_for_its_format(tmp_path, ending, sides):
    frames = [Image.new("RGB", sides, color) for color in ("red", "blue")]
    with pytest.raises(UserError, match=f"{ending}: a frame has {sides[0]} x {sides[1]} px"):
        save_animation(frames, tmp_path / f"a.{ending}")
    assert not list(tmp_path.iterdir())
