"""The command `python -m sagan_tf.sample`."""

import functools
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from small_runs import make_run
from training.test_workers import TESTS, end_of, tf_config

from sagan_tf import sample
from sagan_tf.commands import sample as sample_command
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.sampler import Sampler
from sagan_tf.viewing import sample_tables

pytestmark = pytest.mark.usefixtures("toy_networks")


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_networks):
    return make_run(tmp_path_factory.mktemp("conditional") / "run")


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory, toy_networks):
    return make_run(tmp_path_factory.mktemp("unconditional") / "run", conditional=False)


@pytest.fixture
def refusal(command_error):
    return functools.partial(command_error, sample.main)


def read(path):
    with Image.open(path) as file:
        return np.asarray(file)


def test_sample_writes_a_grid_to_the_run_folder_by_default(run, unconditional, capsys):
    for each in (run, unconditional):
        sample.main([str(each.path)])
        assert capsys.readouterr().out == f"{each.path / 'pictures' / 'grid.png'}\n"
        assert read(each.path / "pictures" / "grid.png").std() > 5


def test_sample_writes_and_prints_every_kind_of_file(run, tmp_path, capsys):
    options = "--sweep 0.5,2,6 --interpolate latents,classes --directions 2 --animate webp --files 5 --columns 2"
    sample.main([str(run.path), "--out", str(tmp_path), *options.split(), "--frames", "3", "--classes", "ring,0"])
    names = {
        "samples",
        "truncation.png",
        "between_latents.png",
        "between_classes.png",
        "between_latents.webp",
        "between_classes.webp",
        "directions.png",
        "directions.webp",
    }
    assert {path.name for path in tmp_path.iterdir()} == names
    assert capsys.readouterr().out.split() == sorted((str(tmp_path / name) for name in names), key=order)


def test_sample_refuses_columns_that_are_not_drawn(run, refusal):
    for option in (("--sweep", "1,2"), ("--files", 3), ("--interpolate", "latents"), ("--directions", 1)):
        assert refusal(run.path, "--columns", 3, *option).startswith("--columns: is for the grid of samples")


def test_sample_truncates_strips_and_animations(run, tmp_path):
    # A truncation at which all latents are nearly 0 and alike.
    options = ["--interpolate", "latents", "--animate", "webp", "--classes", "ring", "--frames", "3", "--columns", "1"]
    for truncation in ("0.0001", "6"):
        sample.main([str(run.path), "--out", str(tmp_path / truncation), "--truncation", truncation, *options])
    for name in ("between_latents.png", "between_latents.webp"):
        near, far = ((tmp_path / truncation / name).read_bytes() for truncation in ("0.0001", "6"))
        assert near != far
    strip = sample_tables.latent_interpolations(sampler_of(run), {1: "ring"}, 0, [0, 0.5, 1], 0.0001).images[0]
    assert np.ptp(np.int16(strip), axis=0).max() <= 1
    free = sample_tables.latent_interpolations(sampler_of(run), {1: "ring"}, 0, [0, 0.5, 1]).images[0]
    assert np.ptp(np.int16(free), axis=0).max() > 5


def sampler_of(run):
    return Sampler(fold_generator(restore_networks(run).generator))


def order(path):
    kinds = ["samples", "truncation.png", "between_latents.png", "between_classes.png"]
    kinds += ["between_latents.webp", "between_classes.webp", "directions.png", "directions.webp"]
    return kinds.index(path.rpartition("/")[2])


def test_sample_single_files_match_class_and_seed_of_their_names(run, tmp_path):
    sample.main([str(run.path), "--out", str(tmp_path), "--files", "6", "--seed", "40", "--classes", "cross,1"])
    sampler = Sampler(fold_generator(restore_networks(run).generator))
    names = [
        f"class_{label:04d}_{name}_seed_{40 + i:08d}.png"
        for i, (label, name) in enumerate([(3, "cross"), (1, "ring")] * 3)
    ]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == sorted(names)
    for i, name in enumerate(names):
        np.testing.assert_array_equal(read(tmp_path / "samples" / name), sampler.sample([40 + i], [(3, 1)[i % 2]])[0])


def test_sample_does_not_mix_single_files_with_others(run, tmp_path, capsys, refusal):
    arguments = [str(run.path), "--out", str(tmp_path), "--files"]
    sample.main([*arguments, "3"])
    sample.main([*arguments, "4"])  # the same three and one more
    before = contents(tmp_path / "samples")
    capsys.readouterr()
    line = refusal(*arguments, "4", "--seed", "1")
    assert line.startswith(
        f"--files: {tmp_path / 'samples'} has images of another command, such as class_0000_disc_seed"
    )
    assert contents(tmp_path / "samples") == before


def test_sample_leaves_no_single_file_of_another_generator(run, tmp_path, monkeypatch):
    """An interrupted command left its images among those of an earlier one with another truncation."""
    arguments = [str(run.path), "--out", str(tmp_path), "--files", "70"]
    sample.main(arguments)
    save, written = sample_command.save_image, []

    def stop(image, path):
        if len(written) == 40:
            raise KeyboardInterrupt
        written.append(path)
        save(image, path)

    with monkeypatch.context() as patch:
        patch.setattr(sample_command, "save_image", stop)
        with pytest.raises(SystemExit):
            sample.main([*arguments, "--truncation", "0.5"])
    assert {path for path in (tmp_path / "samples").glob("*.png")} == set(written)
    sample.main([*arguments, "--truncation", "0.5"])
    sample.main([*arguments[:2], str(tmp_path / "other"), *arguments[3:], "--truncation", "0.5"])
    assert contents(tmp_path / "samples") == contents(tmp_path / "other" / "samples")


def become(monkeypatch, index, workers=2):
    cluster, task = {"worker": [f"a:{i + 1}" for i in range(workers)]}, {"type": "worker", "index": index}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_sample_shares_single_files_among_workers(run, tmp_path, monkeypatch, capsys):
    arguments = [str(run.path), "--files", "70", "--seed", "5", "--truncation", "0.7", "--out"]
    sample.main([*arguments, str(tmp_path / "alone")])
    capsys.readouterr()
    together = tmp_path / "together" / "samples"
    made = []
    for index in (2, 1, 0):  # chief last, so that it need not wait
        become(monkeypatch, index, workers=3)
        sample.main([*arguments, str(tmp_path / "together"), "--interpolate", "latents"])
        made.append(len(list(together.glob("*.png"))))
        out, err = capsys.readouterr()
        assert out == (f"{together}\n{tmp_path / 'together' / 'between_latents.png'}\n" if index == 0 else "")
        assert index == 0 or err == ""
        assert (tmp_path / "together" / "between_latents.png").exists() == (index == 0)
    assert made == [6, 38, 70]  # batches of 32
    assert contents(together) == contents(tmp_path / "alone" / "samples")


def test_sample_worker_resumes_when_interrupted(run, tmp_path, monkeypatch, capsys):
    arguments = [str(run.path), "--files", "100", "--out"]
    sample.main([*arguments, str(tmp_path / "whole")])
    become(monkeypatch, 1)
    written = []

    def stop(image, path):
        if len(written) == 34:
            raise KeyboardInterrupt
        written.append(path)
        save(image, path)

    save = sample_command.save_image
    with monkeypatch.context() as patch:
        patch.setattr(sample_command, "save_image", stop)
        with pytest.raises(SystemExit):
            sample.main([*arguments, str(tmp_path / "broken")])
        written.clear()
        sample.main([*arguments, str(tmp_path / "broken")])
    assert len(written) == 4  # seeds 96 to 99; its first batch was whole
    become(monkeypatch, 0)
    sample.main([*arguments, str(tmp_path / "broken")])
    assert contents(tmp_path / "broken" / "samples") == contents(tmp_path / "whole" / "samples")


def test_sample_names_the_missing_share_when_a_worker_has_another_step(run, tmp_path, monkeypatch, capsys):
    arguments = [run.path, "--files", "40", "--out", tmp_path]
    become(monkeypatch, 1)
    sample.main([*map(str, arguments), "--step", "100"])
    become(monkeypatch, 0)
    monkeypatch.setattr("sagan_tf.commands.sample._WORKERS_MINUTES", 0.001)
    with pytest.raises(SystemExit) as caught:
        sample.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    line = err.replace("\r", "\n").strip().splitlines()[-1]
    assert caught.value.code == 2 and out == ""
    assert line.startswith(f"error: {tmp_path / 'samples'}: no other worker wrote an image")
    assert "32 of 40 are written" in line and "worker 1 of 2" in line


@pytest.mark.stress
@pytest.mark.replicas
def test_sample_in_two_processes_matches_one_when_killed_and_restarted(run, tmp_path):
    command = [sys.executable, "-m", "sagan_tf.sample", str(run.path), "--files", "3000", "--out"]
    folder = tmp_path / "together" / "samples"

    def start(index):
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        return subprocess.Popen(
            [*command, str(tmp_path / "together")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": path, "TF_CONFIG": tf_config("worker", index, worker=["a:1", "b:1"])},
        )  # fmt: skip

    def wait_for(count, *processes):
        deadline = time.monotonic() + 300
        while len(list(folder.glob("*.png"))) < count:
            assert time.monotonic() < deadline and all(process.poll() is None for process in processes)
            time.sleep(0.01)

    chief, other = start(0), start(1)
    for i in range(2):
        wait_for(600 * (i + 1), chief, other)
        other.kill()
        end_of([other])
        other = start(1)
    wait_for(2000, chief, other)
    chief.kill()
    end_of([chief])
    (status, out, err), (other_status, other_out, _) = end_of([start(0), other])
    assert status == other_status == 0, err[-2000:]
    assert out == f"{folder}\n" and other_out == ""
    sample.main([*command[3:], str(tmp_path / "alone")])
    assert contents(folder) == contents(tmp_path / "alone" / "samples")


def test_sample_step_selects_the_checkpoint(run, tmp_path):
    for step in (100, 200):
        sample.main([str(run.path), "--out", str(tmp_path / str(step)), "--step", str(step)])
    sample.main([str(run.path), "--out", str(tmp_path / "newest")])
    old, new, newest = (read(tmp_path / name / "grid.png") for name in ("100", "200", "newest"))
    np.testing.assert_array_equal(new, newest)
    assert (old != new).any()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--classes", "9"], "--classes: 9 is out of range; the model has the classes 0 to 3."),
        (["--classes", "-1"], "--classes: -1 is out of range; the model has the classes 0 to 3."),
        (["--classes", "1,-1"], "--classes: -1 is out of range; the model has the classes 0 to 3."),
        (["--classes", "rnig"], "--classes: the model has no class `rnig`. Did you mean `ring`?"),
        (["--classes", "zzz"], "--classes: the model has no class `zzz`. The classes are disc, ring, square, cross."),
        (["--classes", "0", "--interpolate", "classes"], "--interpolate classes: it needs two classes or more."),
        (["--step", "150"], "{run}: has no checkpoint of step 150; it has those of 100, 200."),
        (["--truncation", "0"], "--truncation: `0` is not a finite number above 0."),
        (["--sweep", "1,x"], "--sweep: `x` is not a finite number above 0."),
        (["--seed", "-1"], f"--seed: `-1` is not a whole number from 0 to {2**62 - 1}."),
        (["--interpolate", "time"], "--interpolate: `time` is not one of latents, classes."),
        (["--directions", "13"], "--directions: the generator has 12 directions, not 13."),
        (["--distance", "2"], "--distance: needs --directions; add it, or leave --distance out."),
        (["--frames", "4", "--animate", "gif"], "--frames: needs --directions or --interpolate; add"),
        (["--sweep", "1,2", "--truncation", "1"], "--truncation: has no effect on --sweep, which lists its"),
        (["--animate", "avi"], "--animate: `avi` is not one of gif, webp, mp4."),
    ],
)
def test_sample_rejects_bad_options_in_one_line(run, tmp_path, refusal, arguments, line):
    found = refusal(run.path, "--out", tmp_path / "out", *arguments)
    assert found.startswith(line.format(run=run.path)), found
    assert not (tmp_path / "out").exists()


def test_sample_names_the_missing_package_of_a_video(run, tmp_path, refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    line = refusal(run.path, "--out", tmp_path / "out", "--animate", "mp4")
    assert line.startswith("mp4: imageio-ffmpeg is not installed. Run `pip install '.[video]'`")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc takes no new folders")
def test_sample_rejects_folder_that_cannot_be_created(run, refusal):
    line = "cannot open or create `/proc/x`: No such file or directory. Choose another path."
    assert refusal(run.path, "--out", "/proc/x", "--columns", "1") == line


def test_sample_rejects_classes_when_the_model_has_none(unconditional, tmp_path, refusal):
    out = ["--out", tmp_path / "out"]
    line = "--classes: the model was trained without classes; leave --classes out."
    assert refusal(unconditional.path, *out, "--classes", "0") == line
    line = "--interpolate classes: the model has no classes."
    assert refusal(unconditional.path, *out, "--interpolate", "classes") == line
    assert not (tmp_path / "out").exists()


def test_sample_rejects_run_without_generator(tmp_path, refusal):
    assert refusal(tmp_path) == f"{tmp_path}: not a run folder; config.yaml is missing."
    empty = make_run(tmp_path / "run", steps=())
    empty.generator_path.unlink()
    assert refusal(empty.path).startswith(f"{empty.generator_path}: there is no generator yet")
