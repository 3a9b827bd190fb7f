"""The metrics log survives kills and names damaged lines."""

import json
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.errors import UserError
from sagan_tf.files import untrusted
from sagan_tf.runs import metrics_log
from sagan_tf.runs.folder import Run

NUMBERS = st.integers(-(2**53), 2**53) | st.floats()


@settings(max_examples=50)
@given(
    lines=st.lists(st.dictionaries(st.sampled_from(["d_loss", "gamma/g/é", "fid"]), NUMBERS), max_size=8),
    cut=st.integers(0, 9),
)
def test_metrics_log_reads_back_equal_and_is_truncated(tmp_path_factory, lines, cut):
    run = Run(tmp_path_factory.mktemp("run"))
    lines = [{"step": step, **line} for step, line in enumerate(lines, start=1)]
    for line in lines:
        run.metrics_log.append(line)
    finite = [{k: v if math.isfinite(v) else None for k, v in line.items()} for line in lines]
    assert run.read_metrics() == finite
    run.metrics_log.truncate_after(cut)
    assert run.read_metrics() == finite[:cut]
    assert set(os.listdir(run.path)) <= {"metrics.jsonl"}


def test_metrics_log_is_strict_json(tmp_path):
    run = Run(tmp_path)
    run.metrics_log.append({"step": 1, "nan": math.nan, "inf": -math.inf})

    def refuse(constant):
        raise ValueError(constant)

    line = run.metrics_path.read_text()
    assert json.loads(line, parse_constant=refuse) == {"step": 1, "nan": None, "inf": None}


@settings(max_examples=30)
@given(torn=st.integers(1, 20))
def test_metrics_log_removes_incomplete_line_of_killed_process(tmp_path_factory, torn):
    run = Run(tmp_path_factory.mktemp("run"))
    for step in (10, 20):
        run.metrics_log.append({"step": step, "d_loss": 1.5})
    whole = run.metrics_path.read_bytes()
    run.metrics_path.write_bytes(whole[:-torn])
    assert run.read_metrics() == [{"step": 10, "d_loss": 1.5}]
    run.metrics_log.truncate_after(20)
    run.metrics_log.append({"step": 20, "d_loss": 1.5})
    assert run.metrics_path.read_bytes() == whole


def test_metrics_log_names_damaged_line(tmp_path):
    run = Run(tmp_path)
    run.metrics_path.write_text('{"step": 1}\n???\n{"step": 3}\n')
    for action in (run.read_metrics, lambda: run.metrics_log.truncate_after(3)):
        with pytest.raises(UserError, match="metrics.jsonl, line 2: not a line of metrics"):
            action()


def test_metrics_log_is_empty_without_file(tmp_path):
    run = Run(tmp_path)
    run.metrics_log.truncate_after(5)
    assert run.read_metrics() == [] and os.listdir(tmp_path) == []


def test_metrics_log_of_a_very_long_run_is_read(tmp_path, monkeypatch):
    """A limit on the whole file locked a run out of its own folder."""
    monkeypatch.setattr(untrusted, "MAX_TEXT_BYTES", 1000)
    run = Run(tmp_path)
    for step in range(100):
        run.metrics_log.append({"step": step, "d_loss": 1.5})
    assert run.metrics_path.stat().st_size > 2000 and len(run.read_metrics()) == 100


def test_metrics_log_refuses_an_endless_line(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics_log, "_MAX_LINE", 1000)
    run = Run(tmp_path)
    run.metrics_path.write_text('{"step": 1, "' + "x" * 2000)
    with pytest.raises(UserError, match="metrics.jsonl, line 1: not a line of metrics"):
        run.read_metrics()
