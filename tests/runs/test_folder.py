"""The run folder: made, resumed, refused, locked; its metrics file survives kills."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sagan_tf
from sagan_tf.config import QUICK_START
from sagan_tf.errors import UserError
from sagan_tf.runs.folder import Run

ROOT = Path(__file__).resolve().parents[2]


def changed(section, **values):
    return dataclasses.replace(QUICK_START, **{section: dataclasses.replace(getattr(QUICK_START, section), **values)})


def refusal(folder, config=QUICK_START):
    with pytest.raises(UserError) as caught:
        Run.create_or_resume(folder, config)
    message = str(caught.value)
    assert message.startswith(str(folder)) and "\n" not in message
    return message


# --- making and resuming ---


def test_new_folder_gets_config_places_and_environment(tmp_path):
    with Run.create_or_resume(tmp_path / "runs" / "new", QUICK_START) as run:
        assert run.config() == QUICK_START
        for place in (run.checkpoints_path, run.samples_path, run.contact_sheet_path.parent):
            assert place.is_dir() and place.is_relative_to(run.path)
        assert run.sample_path(250).parent == run.samples_path
    assert sorted(run.sample_path(step).name for step in (10, 9, 1_000_000, 2)) == [
        run.sample_path(step).name for step in (2, 9, 10, 1_000_000)
    ]


def test_equal_config_resumes_and_each_start_is_recorded(tmp_path):
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
    ],
    ids=["run", "steps", "output", "hardware"],
)
def test_harmless_change_resumes_and_is_saved(tmp_path, config):
    Run.create_or_resume(tmp_path / "run", QUICK_START).close()
    with Run.create_or_resume(tmp_path / "run", config) as run:
        assert run.config() == config


def test_another_config_is_refused_and_the_old_one_stays(tmp_path):
    Run.create_or_resume(tmp_path / "run", QUICK_START).close()
    changes = dict(batch_size=64, ema_decay=None, loss="wasserstein", seed=1)
    other = dataclasses.replace(
        QUICK_START, run="elsewhere", training=dataclasses.replace(QUICK_START.training, **changes)
    )
    message = refusal(tmp_path / "run", other)
    shown = "training.batch_size: 32 -> 64; training.loss: hinge -> wasserstein; training.ema_decay: 0.99 -> null"
    assert f"({shown}; 1 more)" in message
    assert Run.open(tmp_path / "run").config() == QUICK_START


def test_three_differences_are_listed_without_more(tmp_path):
    Run.create_or_resume(tmp_path / "run", QUICK_START).close()
    message = refusal(tmp_path / "run", changed("training", batch_size=64, seed=1, ema_decay=None))
    assert "training.seed: 0 -> 1)" in message


def test_foreign_folder_is_refused_untouched(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    assert "not a run folder; it holds other files and no config.yaml" in refusal(tmp_path)
    assert os.listdir(tmp_path) == ["holiday.jpg"]


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", ".config.123.partial.yaml"]])
def test_folder_of_a_process_killed_at_its_start_is_taken_over(tmp_path, left):
    for name in left:
        (tmp_path / name).touch()
    with Run.create_or_resume(tmp_path, QUICK_START) as run:
        assert run.config() == QUICK_START


def test_broken_config_in_the_folder_names_file_and_line(tmp_path):
    Run.create_or_resume(tmp_path, QUICK_START).close()
    (tmp_path / "config.yaml").write_text("training:\n  stepz: 5\n")
    assert refusal(tmp_path).startswith(f"{tmp_path / 'config.yaml'}, line 2: unknown key `training.stepz`")
    # The failed attempt gave its lock back.
    (tmp_path / "config.yaml").unlink()


def test_failed_start_gives_the_lock_back(tmp_path):
    Run.create_or_resume(tmp_path / "run", QUICK_START).close()
    refusal(tmp_path / "run", changed("training", seed=1))
    Run.create_or_resume(tmp_path / "run", QUICK_START).close()


def test_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "a file is in the way" in refusal(tmp_path / "file")
    assert "a file is in the way" in refusal(tmp_path / "file" / "below")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be written: Permission denied" in refusal(tmp_path / "run")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody may write, as Linux has")
def test_unwritable_folder_is_refused_even_for_root():
    assert "cannot be written" in refusal(Path("/proc/self/run"))


def test_config_without_a_folder_is_refused():
    with pytest.raises(UserError, match="`run` is null"):
        Run.create_or_resume(None, QUICK_START)


def test_name_that_is_too_long_is_refused(tmp_path):
    assert "cannot be written: File name too long" in refusal(tmp_path / ("x" * 300))


def test_open_refuses_what_is_no_run_folder(tmp_path):
    for folder in (tmp_path, tmp_path / "not-there"):
        with pytest.raises(UserError, match="not a run folder; config.yaml is missing"):
            Run.open(folder)


def test_space_is_checked_on_both_sides(tmp_path):
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
run = Run.create_or_resume(sys.argv[1], QUICK_START)
print("locked", flush=True)
time.sleep(100)
"""


def test_second_process_is_refused_until_the_first_is_killed(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    try:
        assert holder.stdout.readline() == b"locked\n"
        assert "another process is training in this folder" in refusal(tmp_path)
        Run.open(tmp_path)  # looking is allowed
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    Run.create_or_resume(tmp_path, QUICK_START).close()


# --- metrics ---

NUMBERS = st.integers(-(2**53), 2**53) | st.floats()


@settings(max_examples=50, deadline=None)
@given(
    lines=st.lists(st.dictionaries(st.sampled_from(["d_loss", "gamma/g/é", "fid"]), NUMBERS), max_size=8),
    cut=st.integers(0, 9),
)
def test_metrics_read_back_and_truncate(tmp_path_factory, lines, cut):
    run = Run(tmp_path_factory.mktemp("run"))
    lines = [{"step": step, **line} for step, line in enumerate(lines, start=1)]
    for line in lines:
        run.metrics_log.append(line)
    finite = [{k: v if math.isfinite(v) else None for k, v in line.items()} for line in lines]
    assert run.read_metrics() == finite
    run.metrics_log.truncate_after(cut)
    assert run.read_metrics() == finite[:cut]
    assert set(os.listdir(run.path)) <= {"metrics.jsonl"}


def test_metrics_are_strict_json(tmp_path):
    run = Run(tmp_path)
    run.metrics_log.append({"step": 1, "nan": math.nan, "inf": -math.inf})

    def refuse(constant):
        raise ValueError(constant)

    line = run.metrics_path.read_text()
    assert json.loads(line, parse_constant=refuse) == {"step": 1, "nan": None, "inf": None}


@settings(max_examples=30, deadline=None)
@given(torn=st.integers(1, 20))
def test_line_torn_by_a_kill_is_passed_over_and_removed_on_resume(tmp_path_factory, torn):
    run = Run(tmp_path_factory.mktemp("run"))
    for step in (10, 20):
        run.metrics_log.append({"step": step, "d_loss": 1.5})
    whole = run.metrics_path.read_bytes()
    run.metrics_path.write_bytes(whole[: -torn])
    assert run.read_metrics() == [{"step": 10, "d_loss": 1.5}]
    run.metrics_log.truncate_after(20)
    run.metrics_log.append({"step": 20, "d_loss": 1.5})
    assert run.metrics_path.read_bytes() == whole


def test_damaged_metrics_name_file_and_line(tmp_path):
    run = Run(tmp_path)
    run.metrics_path.write_text('{"step": 1}\n???\n{"step": 3}\n')
    for action in (run.read_metrics, lambda: run.metrics_log.truncate_after(3)):
        with pytest.raises(UserError, match="metrics.jsonl, line 2: not a line of metrics"):
            action()


def test_metrics_of_a_run_without_any_are_empty(tmp_path):
    run = Run(tmp_path)
    run.metrics_log.truncate_after(5)
    assert run.read_metrics() == [] and os.listdir(tmp_path) == []


def test_class_names_come_back_and_what_is_none_is_refused(tmp_path):
    run = Run(tmp_path)
    run.class_names_path.parent.mkdir()
    assert run.class_names() is None
    run.save_class_names(("chat", "犬", 'a "b"'))
    assert run.class_names() == ["chat", "犬", 'a "b"']
    run.class_names_path.write_text("{}")
    with pytest.raises(UserError, match="does not hold a list of class names"):
        run.class_names()
