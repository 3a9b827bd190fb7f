"""`sagan prepare`: contents, order, continuing, and damaged or hostile folders."""

import errno
import json
import os
import shutil
import types

import numpy as np
import pytest
from data.prepared_folders import COUNT, ON_DISK, contents, run
from PIL import Image
from small_data import open_small, save_picture

from sagan_tf import cli
from sagan_tf.commands.options import PrepareOptions
from sagan_tf.commands.prepare import _train_command
from sagan_tf.config import load_config
from sagan_tf.data import prepared, preparing
from sagan_tf.data.fingerprint import fingerprint, fingerprint_differences, portable_fingerprint
from sagan_tf.data.pipeline import make_dataset
from sagan_tf.data.prepared import PreparedReader
from sagan_tf.errors import UserError

pytestmark = pytest.mark.usefixtures("small_shards")


@pytest.mark.parametrize(("encoding", "shape"), [
    ("raw", (32, 32, 3)), ("raw", (24, 32, 1)), ("png", (32, 24, 3)), ("png", (32, 32, 1)), ("jpeg", (24, 32, 1)),
])  # fmt: skip
def test_prepared_images_are_those_of_the_folder(pictures, tmp_path, encoding, shape):
    options = dict(zip(("image_height", "image_width", "image_channels"), shape))
    run(pictures, tmp_path / "out", encoding, quality=100 if encoding == "jpeg" else None, **options)
    folder = open_small(pictures, **options)
    source = open_small(tmp_path / "out", **options, **ON_DISK)
    assert source.image_shape == folder.reader.images.shape[1:] == shape
    manifest = prepared.read_manifest(tmp_path / "out" / "train")
    assert manifest["options"]["source"] == str(pictures) and manifest["options"]["split"] == "train"
    assert isinstance(source.reader, PreparedReader) and len(source.files) == 3
    assert (source.class_names, source.class_counts) == (folder.class_names, folder.class_counts)
    images, labels = map(np.concatenate, zip(*source.reader.in_order_batches(7)))
    np.testing.assert_array_equal(labels, folder.reader.labels)
    np.testing.assert_allclose(images, folder.reader.images, rtol=0, atol=2 if encoding == "jpeg" else 0)
    np.testing.assert_array_equal(source.reader.load([3, 0, 3]), images[[3, 0, 3]])


@pytest.mark.parametrize("options", [{}, ON_DISK])
def test_prepared_images_are_trained_on_in_the_order_of_the_folder(pictures, raw, options):
    expected = make_dataset(open_small(pictures), 12, seed=3).take(7)
    actual = make_dataset(open_small(raw, **options), 12, seed=3).take(7)
    for pair, other in zip(expected.as_numpy_iterator(), actual.as_numpy_iterator(), strict=True):
        for value, other_value in zip(pair, other, strict=True):
            np.testing.assert_array_equal(value, other_value)


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_prepared_stream_is_a_permutation_that_can_be_entered_at_any_step(tmp_path, encoding):
    for i in range(50):
        save_picture(tmp_path / "numbers" / f"{i}.png", np.full((4, 4, 3), i, np.uint8))
    run(tmp_path / "numbers", tmp_path / "out", encoding, image_size=4)
    source = open_small(tmp_path / "out", image_size=4, **ON_DISK)
    whole = np.concatenate([batch for (batch,) in make_dataset(source, 10, seed=1).take(15).as_numpy_iterator()])
    epochs = whole[:, 0, 0, 0].reshape(3, 50)
    assert (np.sort(epochs) == np.arange(50)).all() and (epochs[0] != epochs[1]).any()
    later = [batch for (batch,) in make_dataset(source, 10, seed=1, start_step=8).take(7).as_numpy_iterator()]
    np.testing.assert_array_equal(np.concatenate(later), whole[80:])


def test_prepare_reads_splits_and_other_sources(pictures, raw, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sagan_tf.data.embedded.SPLITS", {"train": 40, "test": 20})
    cli.main(["prepare", str(pictures), "--out", str(tmp_path / "a"), "--split", "test,train", "--image_size", "32"])
    assert "3 images of 32x32x3, 2 class(es), raw" in capsys.readouterr().out
    cli.main(["prepare", "twins", "--out", str(tmp_path / "b"), "--split", "test", "--image_size", "32",
              "--image_channels", "1"])  # fmt: skip
    assert capsys.readouterr().out.endswith(" --data.image_size 32 --data.split test --data.image_channels 1\n")
    assert contents(tmp_path / "a" / "train") == contents(raw / "train")
    assert open_small(tmp_path / "a", split="test").num_images == 3
    with pytest.raises(UserError, match="no split `val`. Choose from test, train"):
        open_small(tmp_path / "a", split="val")
    run(raw, tmp_path / "again", "png")
    np.testing.assert_array_equal(open_small(tmp_path / "again").reader.images, open_small(raw).reader.images)
    (tmp_path / "twins").mkdir()  # a folder of that name is another data set, as for training
    monkeypatch.chdir(tmp_path)
    run("twins", tmp_path / "ready")
    twins, again = open_small("twins"), open_small(tmp_path / "ready")
    np.testing.assert_array_equal(again.reader.images, twins.reader.images)
    assert (again.class_names, again.class_counts) == (twins.class_names, twins.class_counts)


def test_prepare_continues_with_identical_bytes(pictures, raw, tmp_path, monkeypatch):
    def stop_at_second(path, number, *arguments):
        if number == 1:
            (path / ".shard_00001.bin.abcdefgh.partial").mkdir()  # what a kill leaves
            raise KeyboardInterrupt
        return write(path, number, *arguments)

    write, loaded = preparing._write_shard, []
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "_write_shard", stop_at_second)
        with pytest.raises(KeyboardInterrupt):
            run(pictures, tmp_path / "out")
    with pytest.raises(UserError, match="not complete. Run the same"):
        open_small(tmp_path / "out")
    with pytest.raises(UserError, match="prepared with image_size 32, not 16; encoding raw, not png"):
        run(pictures, tmp_path / "out", "png", image_size=16)
    load = preparing.load_image
    monkeypatch.setattr(preparing, "load_image", lambda *arguments: loaded.append(1) or load(*arguments))
    assert run(pictures, tmp_path / "out")[1] is None and len(loaded) == COUNT - 16
    assert contents(tmp_path / "out") == contents(raw)


def test_prepare_leaves_complete_and_other_folders_alone(pictures, copy, tmp_path, capsys):
    before = contents(copy), os.stat(copy / "train" / "prepared.json").st_mtime_ns
    cli.main(["prepare", str(pictures), "--out", str(copy), "--image_size", "32"])
    assert "already complete, checked and left as it is: 40 images" in capsys.readouterr().out.splitlines()[0]
    assert (contents(copy), os.stat(copy / "train" / "prepared.json").st_mtime_ns) == before
    with pytest.raises(UserError, match="was prepared with resize bilinear, not area"):
        run(pictures, copy, resize="area")
    with pytest.raises(UserError, match="is not empty"):
        run(pictures, pictures)
    with pytest.raises(UserError, match="does not exist|neither"):
        run(tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_prepare_stops_at_or_skips_corrupt_images_and_reads_repaired_ones(pictures, raw, tmp_path):
    source = shutil.copytree(pictures, tmp_path / "pictures")
    broken = source / "train" / "kätze" / "20.png"
    content = broken.read_bytes()
    broken.write_bytes(content[:100])
    with pytest.raises(UserError, match="1 of 40 files cannot be read: .*20.png.*--corrupt skip"):
        run(source, tmp_path / "out")
    manifest, _ = run(source, shutil.copytree(tmp_path / "out", tmp_path / "skipped"), corrupt="skip")
    assert manifest["num_images"] == COUNT - 1 and manifest["skipped"][0][0] == str(broken)
    assert open_small(tmp_path / "skipped").class_counts == open_small(source, corrupt="skip").class_counts
    broken.write_bytes(content)
    run(source, tmp_path / "out")
    ours, expected = contents(tmp_path / "out"), contents(raw)
    assert ours.pop("prepared.json") and expected.pop("prepared.json") and ours == expected


def test_prepare_leaves_out_a_class_without_a_readable_image(pictures, tmp_path):
    source = shutil.copytree(pictures, tmp_path / "pictures")
    (source / "train" / "broken").mkdir()
    (source / "train" / "broken" / "0.png").write_bytes(b"no image")
    manifest, _ = run(source, tmp_path / "out", corrupt="skip")
    assert (f"{source}/train/broken/", "no image of the class `broken` can be read") in manifest["skipped"]
    prepared_source, expected = open_small(tmp_path / "out"), open_small(pictures)
    assert prepared_source.class_names == expected.class_names
    np.testing.assert_array_equal(prepared_source.reader.labels, expected.reader.labels)


def test_prepare_without_space_for_pixels_takes_another_encoding(pictures, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(UserError, match="120.0 KiB are needed and 1.0 KiB free"):
        patch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1024))
        run(pictures, tmp_path / "out")
    assert run(pictures, tmp_path / "out", "png")[0]["options"]["encoding"] == "png"


def test_prepare_reads_an_image_again_that_failed_for_a_while(pictures, raw, tmp_path, monkeypatch):
    def fail_twice(path, *arguments):
        loaded.append(path)
        if path.endswith("20.png") and failures:
            raise failures.pop()
        return load(path, *arguments)

    load, loaded, failures = preparing.load_image, [], [OSError(errno.EIO, "Input/output error")] * 2
    monkeypatch.setattr(preparing, "load_image", fail_twice)
    for count in (COUNT, COUNT + 1):  # an image that still fails costs no shard
        with pytest.raises(UserError, match="1 of 40 files cannot be read: .*Input/output error"):
            run(pictures, tmp_path / "out")
        assert len(loaded) == count
    run(pictures, tmp_path / "out")
    assert len(loaded) == COUNT + 2 + 16 and contents(tmp_path / "out") == contents(raw)


@pytest.mark.parametrize("change", [
    {"images": 17}, {"images": None}, {"bytes": 5}, {"index": "xy"}, {"index": ""}, {"index": 3}, {"sha256": None},
    {"unreadable": 3}, {"unreadable": [["one"]]}, {"unreadable": [[1, 2]]}, {"unreadable": [["a", "b"]]}, None,
])  # fmt: skip
def test_prepare_writes_a_shard_again_whose_record_is_damaged(pictures, raw, tmp_path, monkeypatch, change):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(preparing, "_finish", stop)
        run(pictures, tmp_path / "out")
    path = tmp_path / "out" / "train" / "shard_00001.bin.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({"source": record["source"]} if change is None else record | change))
    run(pictures, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(raw)


@pytest.mark.parametrize("is_killed", [False, True])
def test_prepare_is_refused_when_other_options_overtake_it(pictures, tmp_path, monkeypatch, is_killed):
    def overtake(options):
        monkeypatch.setattr(preparing, "_open", open_source)
        if is_killed:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(preparing, "_finish", stop)
                run(pictures, tmp_path / "out", split="test")
        else:
            run(pictures, tmp_path / "out", split="test")
        before.update(contents(tmp_path / "out"))
        return open_source(options)

    def stop(*_):
        raise KeyboardInterrupt

    open_source, before = preparing._open, {}
    monkeypatch.setattr(preparing, "_open", overtake)
    with pytest.raises(UserError, match="was prepared with resize bilinear, not area"):
        run(pictures, tmp_path / "out", split="test", resize="area")
    assert before and contents(tmp_path / "out") == before


def test_prepare_finds_shards_damaged_while_it_works(pictures, raw, tmp_path, monkeypatch):
    """All of them at once: each check reads everything."""

    def damage(*arguments):
        for number in (0, 2):
            shard = tmp_path / "out" / "train" / f"shard_0000{number}.bin"
            shard.write_bytes(b"x" * shard.stat().st_size)
        return check(*arguments)

    check = preparing._find_damaged
    monkeypatch.setattr(preparing, "_find_damaged", damage)
    with pytest.raises(UserError, match="shards differ from what was written: shard_00000.bin, shard_00002.bin."):
        run(pictures, tmp_path / "out")
    monkeypatch.setattr(preparing, "_find_damaged", check)
    run(pictures, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(raw)


def test_prepare_writes_lost_and_damaged_shards_of_a_complete_folder_again(pictures, raw, copy, tmp_path, capsys):
    source, shard = shutil.copytree(pictures, tmp_path / "pictures"), copy / "train" / "shard_00002.bin"
    change_manifest(copy, source)

    def damage():
        content = bytearray(shard.read_bytes())
        content[1000] ^= 1
        shard.write_bytes(content)

    damage()
    (copy / "train" / "shard_00000.bin").unlink()
    cli.main(["prepare", str(source), "--out", str(copy), "--image_size", "32"])
    assert "complete again: 2 lost or damaged shard(s) written anew: 40 images" in capsys.readouterr().out
    change_manifest(copy, pictures)
    assert contents(copy) == contents(raw)
    change_manifest(copy, source)
    damage()
    save_picture(source / "train" / "犬" / "39.png", np.zeros((20, 24, 3), np.uint8))
    damaged = contents(copy)
    with pytest.raises(UserError, match="lost or damaged shards, and the source has changed since. Remove .*train and"):
        run(source, copy)
    assert contents(copy) == damaged
    shutil.rmtree(source)
    with pytest.raises(UserError, match="shard_00002.bin: is lost or damaged, and cannot be written again: .*pictures"):
        run(source, copy)


def change_manifest(folder, source):
    """Writes another source into the manifest."""
    path = folder / "train" / "prepared.json"
    manifest = json.loads(path.read_text())
    manifest["options"]["source"] = str(source)
    path.write_text(preparing._to_json(manifest))


def test_prepared_data_with_other_options_are_refused(raw):
    with pytest.raises(UserError, match="prepared with image_size 32, not 64. Set data.image_size to 32"):
        open_small(raw, image_size=64)
    with pytest.raises(UserError, match="prepared with image_size 32, not 32x48. Set data.image_size to 32, or"):
        open_small(raw, image_height=32, image_width=48)
    with pytest.raises(UserError, match="image_channels 3, not 1. Set data.image_channels to 3"):
        open_small(raw, image_channels=1)
    with pytest.raises(UserError, match="resize bilinear, not area"):
        open_small(raw, resize="area")


def test_prepared_data_of_another_aspect_are_refused(pictures, tmp_path, capsys):
    command = ["prepare", str(pictures), "--out", str(tmp_path), "--image_height", "24", "--image_width", "40"]
    cli.main(command)
    assert "40 images of 24x40x3" in (out := capsys.readouterr().out)
    assert " --data.image_height 24 --data.image_width 40 --generator.attention_sizes '[12]' " in out
    with pytest.raises(SystemExit, match="2"):
        cli.main([*command, "--image_size", "32"])
    assert "--image_size: sets a square" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main(command[:-1] + ["41"])
    assert "--image_height: must have a smaller side" in capsys.readouterr().err
    with pytest.raises(
        UserError, match="image_size 24x40, not 32. Set data.image_height to 24 and data.image_width to"
    ):
        open_small(tmp_path)
    with pytest.raises(UserError, match="prepared with image_size 24x40, not 16"):
        run(pictures, tmp_path, image_size=16)
    with pytest.raises(SystemExit):
        cli.main(command[:-2])
    assert "--image_height: give --image_width too" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*command[:4], "--image_size", "33"])
    assert "the nearest sizes are 32 or 40 px. Got 33" in capsys.readouterr().err
    with pytest.raises(UserError, match="`twins`: has squares only, of 32 to 256 px. Got 32x48"):
        open_small("twins", image_height=32, image_width=48)


def test_prepare_names_its_own_options(tmp_path, capsys):
    """Those of training are not among them."""
    for source, line in (
        ("nothing_of_this_name", "SOURCE: `nothing_of_this_name` is neither a folder nor"),
        ("cifar10", "set --data_dir to its folder, --manual_dir to the folder of its archives, or --download."),
    ):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["prepare", source, "--out", str(tmp_path / "out"), "--data_dir", str(tmp_path)])
        err = capsys.readouterr().err
        assert line in err and "data." not in err.replace(str(tmp_path), "")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("out", "name"), [("twins", "./twins"), ("-out", "./-out"), ("out", "out")])
def test_prepare_prints_a_command_that_trains_on_its_folder(pictures, tmp_path, monkeypatch, capsys, out, name):
    """`--data.name twins` is the embedded data set, also beside a folder of this name."""
    monkeypatch.chdir(tmp_path)
    cli.main(["prepare", str(pictures), f"--out={out}", "--image_size", "32"])
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == f"Train with: sagan train --data.name {name} --data.image_size 32"
    assert load_config(line.split()[4:]).data.name == name
    assert open_small(name).class_names == ("kätze", "犬")


@pytest.mark.parametrize("image_size", [24, 32, 48, 80, 96, 128, 160, 192, 224, 256, 320, 448])
def test_command_that_prepare_prints_is_accepted(tmp_path, image_size):
    options = PrepareOptions(source="pictures", out=tmp_path, image_size=image_size)
    config = load_config(_train_command(options)[2:])
    assert config.data.image_size == image_size
    assert all(8 <= size <= 32 for size in config.discriminator.attention_sizes)


@pytest.mark.parametrize("options", [{}, ON_DISK, {"conditional": False}])
def test_fingerprints_of_prepared_data_are_those_of_the_contents(raw, copy, pictures, tmp_path, options):
    source, other = open_small(raw, **options), open_small(copy, **options)
    assert fingerprint(source) == fingerprint(other)
    assert fingerprint_differences(portable_fingerprint(source), portable_fingerprint(other)) is None
    changed = shutil.copytree(pictures, tmp_path / "changed")
    Image.new("RGB", (20, 24)).save(changed / "train" / "kätze" / "20.png")
    run(changed, tmp_path / "out")
    changed = open_small(tmp_path / "out", **options)
    assert fingerprint(source) != fingerprint(changed)
    assert fingerprint_differences(portable_fingerprint(source), portable_fingerprint(changed)) is not None
