"""The run folder: creation, resuming, rejected folders, locks."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import sagan_tf
from sagan_tf.config import QUICK_START, save_config
from sagan_tf.errors import UserError
from sagan_tf.runs.folder import Run, pictures_by_step
from sagan_tf.runs.records import parse_starts

ROOT = Path(__file__).resolve().parents[2]


def changed(section, **values):
    return dataclasses.replace(QUICK_START, **{section: dataclasses.replace(getattr(QUICK_START, section), **values)})


def refusal(folder, config=QUICK_START):
    with pytest.raises(UserError) as caught:
        Run.create_or_resume(folder, config)
    message = str(caught.value)
    assert message.startswith(str(folder)) and "\n" not in message
    return message


# --- creating and resuming ---


def test_run_create_writes_config_folders_and_environment(tmp_path):
    with Run.create_or_resume(tmp_path / "runs" / "new", QUICK_START) as run:
        assert run.config() == QUICK_START
        for place in (run.checkpoints_path, run.samples_path, run.contact_sheet_path.parent):
            assert place.is_dir() and place.is_relative_to(run.path)
        assert run.sample_path(250).parent == run.samples_path
    assert sorted(run.sample_path(step).name for step in (10, 9, 1_000_000, 2)) == [
        run.sample_path(step).name for step in (2, 9, 10, 1_000_000)
    ]


def test_run_resume_records_every_start(tmp_path):
    for _ in range(2):
        with Run.create_or_resume(tmp_path / "run", QUICK_START) as run:
            (run.checkpoints_path / "kept").touch()
    starts = json.loads(run.environment_path.read_text())
    assert len(starts) == 2 and (run.checkpoints_path / "kept").exists()
    assert starts[0]["sagan_tf"] == sagan_tf.__version__
    assert starts[0]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert starts[0]["cpu_cores"] >= 1 and starts[0]["cpu"] and starts[0]["gpus"] == []


@pytest.mark.parametrize(
    "config",
    [
        dataclasses.replace(QUICK_START, run="elsewhere"),
        changed("training", steps=3_000),
        changed("output", log_interval=25),
        changed("hardware", precision="mixed_bfloat16"),
        changed("data", data_dir="elsewhere", memory_limit_gib=0.5),
    ],
    ids=["run", "steps", "output", "hardware", "data"],
)
def test_run_resume_saves_config_when_changeable_fields_differ(tmp_path, config):
    Run.create_or_resume(tmp_path / "run", QUICK_START).close()
    with Run.create_or_resume(tmp_path / "run", config) as run:
        assert run.config() == config


def test_run_resume_rejects_config_when_other_fields_differ(tmp_path):
    Run.create_or_resume(tmp_path / "run", QUICK_START).close()
    changes = dict(batch_size=64, ema_decay=None, loss="wasserstein", seed=1)
    other = dataclasses.replace(
        QUICK_START, run="elsewhere", training=dataclasses.replace(QUICK_START.training, **changes)
    )
    message = refusal(tmp_path / "run", other)
    shown = (
        "training.batch_size: 32 -> 64; training.loss: relativistic -> wasserstein; training.ema_decay: 0.998 -> null"
    )
    assert f"({shown}; and 1 more)" in message
    assert Run.open(tmp_path / "run").config() == QUICK_START


def test_run_resume_rejection_lists_three_differences(tmp_path):
    Run.create_or_resume(tmp_path / "run", QUICK_START).close()
    message = refusal(tmp_path / "run", changed("training", batch_size=64, seed=1, ema_decay=None))
    assert "training.seed: 0 -> 1)" in message


def test_run_create_leaves_folder_of_other_files_untouched(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    assert "not a run folder; it holds other files and no config.yaml" in refusal(tmp_path)
    assert os.listdir(tmp_path) == ["holiday.jpg"]


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", ".config.yaml.abcdefgh.partial"]])
def test_run_create_uses_folder_of_process_killed_at_start(tmp_path, left):
    for name in left:
        (tmp_path / name).touch()
    with Run.create_or_resume(tmp_path, QUICK_START) as run:
        assert run.config() == QUICK_START


def test_run_resume_names_file_and_line_when_config_is_broken(tmp_path):
    Run.create_or_resume(tmp_path, QUICK_START).close()
    (tmp_path / "config.yaml").write_text("training:\n  stepz: 5\n")
    assert refusal(tmp_path).startswith(f"{tmp_path / 'config.yaml'}, line 2: unknown key `training.stepz`")
    # The failed attempt released its lock.
    (tmp_path / "config.yaml").unlink()


def test_run_lock_is_released_when_start_fails(tmp_path):
    Run.create_or_resume(tmp_path / "run", QUICK_START).close()
    refusal(tmp_path / "run", changed("training", seed=1))
    Run.create_or_resume(tmp_path / "run", QUICK_START).close()


def test_run_create_rejects_file_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    assert "a file is in the way" in refusal(tmp_path / "file")
    assert "a file is in the way" in refusal(tmp_path / "file" / "below")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_run_create_rejects_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be written: Permission denied" in refusal(tmp_path / "run")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody may write, as Linux has")
def test_run_create_rejects_folder_that_root_cannot_write():
    assert "cannot be written" in refusal(Path("/proc/self/run"))


def test_run_create_rejects_name_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--training.start_from takes a repository of the Hub" in refusal("hf://me/toy")
    assert "only a shell knows `~`" in refusal("~/runs/pets")  # of a YAML file; it made a folder of this name
    assert not list(tmp_path.iterdir())


def test_run_whose_start_was_killed_before_its_first_checkpoint_is_taken_up(tmp_path):
    Run.create_or_resume(tmp_path, QUICK_START).close()
    (tmp_path / "generator.keras").touch()
    assert "holds a generator, which training would replace" in refusal(tmp_path)
    for name in ("start_from.txt", "unfinished_line.json"):  # written before the generator
        (tmp_path / name).touch()
        Run.create_or_resume(tmp_path, QUICK_START).close()
        (tmp_path / name).unlink()


def test_class_names_of_embedded_data_are_known_without_the_file(tmp_path):
    for name, conditional, names in (
        ("twins", None, ["disc", "ring", "square", "cross"]), ("twins", False, None), ("cifar10", None, None),
    ):  # fmt: skip
        data = dataclasses.replace(QUICK_START.data, name=name, conditional=conditional)
        save_config(dataclasses.replace(QUICK_START, data=data), tmp_path / "config.yaml")
        run = Run.open(tmp_path)
        assert run.class_names() is None and run.known_class_names() == names


def test_run_create_rejects_missing_folder_name():
    with pytest.raises(UserError, match="`run` is null"):
        Run.create_or_resume(None, QUICK_START)


def test_run_create_rejects_name_that_is_too_long(tmp_path):
    assert "cannot be written: File name too long" in refusal(tmp_path / ("x" * 300))


def test_run_open_rejects_other_folders(tmp_path):
    for folder in (tmp_path, tmp_path / "not-there"):
        with pytest.raises(UserError, match="not a run folder; config.yaml is missing"):
            Run.open(folder)


def test_run_check_space_compares_with_free_space(tmp_path):
    with Run.create_or_resume(tmp_path / "run", QUICK_START) as run:
        run.check_space(1)
        message = r"needs 1048576\.0 GiB of disk space for its checkpoints, and .* GiB is free"
        with pytest.raises(UserError, match=message):
            run.check_space(2**50)


# --- the lock ---

HOLD = """
import sys, time
from sagan_tf.config import QUICK_START
from sagan_tf.runs.folder import Run
run = Run.lock(sys.argv[1], QUICK_START)
print("locked", flush=True)
time.sleep(100)
"""


@pytest.mark.slow
def test_run_lock_rejects_second_process_until_first_is_killed(tmp_path):
    Run.create_or_resume(tmp_path, QUICK_START).close()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    try:
        assert holder.stdout.readline() == b"locked\n"
        assert "another process is training in this folder" in refusal(tmp_path)
        Run.open(tmp_path)  # reading is allowed
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    Run.create_or_resume(tmp_path, QUICK_START).close()


def test_run_class_names_read_back_equal_and_reject_other_content(tmp_path):
    run = Run(tmp_path)
    run.class_names_path.parent.mkdir()
    assert run.class_names() is None
    run.save_class_names(("chat", "犬", 'a "b"'))
    assert run.class_names() == ["chat", "犬", 'a "b"']
    run.class_names_path.write_text("{}")
    with pytest.raises(UserError, match="does not hold a list of class names"):
        run.class_names()


def test_run_remove_pictures_after_keeps_those_up_to_the_step_and_other_files(tmp_path):
    run = Run(tmp_path)
    for folder in (run.samples_path, run.attention_path):
        folder.mkdir()
        for name in ("step_00000000.png", "step_00000002.png", "step_00000004.png", "step_4.txt", "mine.png"):
            (folder / name).write_bytes(b"")
    run.remove_pictures_after(2)
    for folder in (run.samples_path, run.attention_path):
        left = {"step_00000000.png", "step_00000002.png", "step_4.txt", "mine.png"}
        assert {path.name for path in folder.iterdir()} == left and set(pictures_by_step(folder)) == {0, 2}


@pytest.mark.parametrize("value", [{}, [1], [{"command": 5}], [{"command": None}]])
def test_starts_are_dicts_with_a_command_that_is_a_list(value):
    with pytest.raises(ValueError):
        parse_starts(value)
    assert parse_starts([{"command": ["sagan"]}, {}]) == [{"command": ["sagan"]}, {}]
