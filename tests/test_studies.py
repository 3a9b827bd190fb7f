"""The driver of benchmarks/studies and its report."""

import importlib.util
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

STUDIES = Path(__file__).resolve().parents[1] / "benchmarks" / "studies"
# Stands for run_one.py: says when it began and ended and on how many threads, and can be stopped.
RUN_ONE = """
import json, os, pathlib, signal, sys, time
study, arm, seed, folder = sys.argv[1:]
folder = pathlib.Path(folder)
folder.mkdir(parents=True, exist_ok=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
began = time.monotonic()
(folder / "started").touch()
time.sleep(60 if arm == "slow" else 1)
if arm == "failing":
    sys.exit(1)
about = {"began": began, "ended": time.monotonic(), "threads": os.environ.get("TF_NUM_INTRAOP_THREADS")}
(folder / "result.json").write_text(json.dumps(about))
"""
DRIVER = """
import sys
sys.path.insert(0, {studies!r})
import importlib.util
spec = importlib.util.spec_from_file_location("driver", {studies!r} + "/__main__.py")
driver = importlib.util.module_from_spec(spec)
spec.loader.exec_module(driver)
from pathlib import Path
from definitions import Study
driver.RUN_ONE = Path({script!r})
study = Study("toy", "Does it run?", {{}}, {{arm: {{}} for arm in {arms!r}}}, (0, 1))
sys.exit(driver.run_missing([study], Path({out!r}), {jobs}))
"""


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    monkeypatch.syspath_prepend(str(STUDIES.parent))
    spec = importlib.util.spec_from_file_location("studies_report", STUDIES / "report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(tmp_path, arms, jobs):
    script = tmp_path / "run_one.py"
    script.write_text(RUN_ONE)
    code = DRIVER.format(studies=str(STUDIES), script=str(script), arms=arms, out=str(tmp_path), jobs=jobs)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(STUDIES.parents[1])},
    )  # fmt: skip


def finish(process):
    output, error = process.communicate(timeout=60)
    return process.returncode, output, error


def log(tmp_path):
    return [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]


def test_jobs_run_at_the_same_time_on_a_part_of_the_cores(tmp_path):
    assert finish(start(tmp_path, ["a"], 2))[0] == 0
    first, second = (json.loads((tmp_path / f"toy/a/{seed}/result.json").read_text()) for seed in (0, 1))
    assert max(first["began"], second["began"]) < min(first["ended"], second["ended"])
    assert first["threads"] == second["threads"] == str(max(1, os.cpu_count() // 2))
    assert [(entry["arm"], entry["jobs"], entry["code"]) for entry in log(tmp_path)] == [("a", 2, 0)] * 2
    code, output, _ = finish(start(tmp_path, ["a"], 2))
    assert code == 0 and "2 of 2 runs are done" in output


def test_stop_reaches_every_run_and_starts_no_other(tmp_path):
    process = start(tmp_path, ["slow", "a"], 2)
    # The order is by seed, so one run of each arm begins, and a fast one makes room for the next of arm `slow`.
    while not (tmp_path / "toy/slow/1/started").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 143
    assert {(entry["arm"], entry["seed"], entry["code"]) for entry in log(tmp_path)} == {
        ("slow", 0, 143), ("a", 0, 0), ("slow", 1, 143),
    }  # fmt: skip
    assert not (tmp_path / "toy/a/1").exists()


def test_failed_run_ends_the_others_and_is_named(tmp_path):
    code, _, error = finish(start(tmp_path, ["failing", "slow"], 2))
    assert code == 1
    assert "toy/failing/0: the run failed with code 1" in error
    assert not (tmp_path / "toy/failing/1").exists()


def test_interval_is_that_of_students_t(report):
    # The quantile of four degrees of freedom from a printed table.
    mean, half = report.interval([1, 2, 3, 4, 5, None])
    assert mean == 3 and half == pytest.approx(2.776 * np.sqrt(2.5) / np.sqrt(5), rel=1e-3)
    assert np.isnan(report.interval([0.5])[1]) and np.isnan(report.interval([])[0])


def test_page_has_means_of_what_did_not_diverge_and_every_run(report):
    from definitions import Study

    study = Study("toy", "Does it help?", {}, {"with": {}, "without": {}}, (0, 1))

    def run(arm, seed, score, failure=None):
        scores = [{"step": 9, "score": 0.0}, {"step": 10, "score": score, "hue_agreement": None}]
        return {"arm": arm, "seed": seed, "failure": failure, "samples": 1000, "sample_seeds": [0, 999],
                "scores": scores, "signs": {"ever": ["collapsed"], "at_end": []}}  # fmt: skip

    runs = [run("with", 0, 0.5), run("with", 1, 0.7), run("without", 0, 0.9, "error: training diverged"),
            run("without", 1, 1.0)]  # fmt: skip
    lines = report.page(study, runs).splitlines()
    # 12.706 is the quantile of one degree of freedom; the standard error of .5 and .7 is .1.
    assert "| with | 2 | 0 | 2 | 0 | .600 ± 1.271 |" in lines
    assert "| without | 2 | 1 | 2 | 0 | 1.000 |" in lines
    assert "| with | 0 | 10 | .500 |" in lines
    assert "| without | 0 | error: training diverged | .900 |" in lines


def test_attention_table_has_means_over_the_seeds(report):
    def summary(seed, network, distance, keys, layer="attention_16"):
        return {"seed": seed, "network": network, "layer": layer, "pictures": "generated", "distance_px": distance,
                "keys": 64, "uniform_distance_px": 16.6, "outside_field": 0.75, "effective_keys": keys}  # fmt: skip

    attention = {"with": [summary(0, "generator", 14.0, 2.0), summary(0, "discriminator", 16.0, 60.0),
                          summary(1, "generator", 15.0, 3.0),
                          summary(1, "generator", 9.0, 4.0, "attention_8")], "without": []}  # fmt: skip
    table = report.attention_table(attention)
    assert "| with | generator | attention_16 | generated | 14.5 | 16.6 | 75% | 2.5 of 64 |" in table
    assert "| with | generator | attention_8 | generated | 9.0 | 16.6 | 75% | 4.0 of 64 |" in table
    assert "| with | discriminator | attention_16 | generated | 16.0 | 16.6 | 75% | 60.0 of 64 |" in table
    assert "without" not in table.splitlines()[-1] and report.attention_table({"without": []}) == ""


def test_guard_signs_are_those_of_each_line(report):
    def line(diversity, accuracy=0.8, loss=1.0):
        return {"sample_diversity": diversity, "d_accuracy": accuracy, "d_loss": loss}

    assert report.guard_signs([]) == {"ever": [], "at_end": []}
    assert report.guard_signs([line(0.01), line(0.5), line(0.11)]) == {"ever": [], "at_end": []}
    collapsed = [line(0.5), line(0.09), line(0.3)]
    assert report.guard_signs(collapsed) == {"ever": ["collapsed"], "at_end": []}
    saturated = [line(0.5), line(0.05, accuracy=1.0, loss=0.01)]
    assert report.guard_signs(saturated) == {"ever": ["collapsed", "saturated"], "at_end": ["collapsed", "saturated"]}


def test_every_arm_of_every_study_is_a_valid_config(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(STUDIES))
    spec = importlib.util.spec_from_file_location("studies_run_one", STUDIES / "run_one.py")
    run_one = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run_one)
    arms = [(study, arm) for study in run_one.STUDIES for arm in study.arms]
    assert len(arms) > 50
    for study, arm in arms:
        config = run_one.load_config(run_one.flags_of(study, arm, study.seeds[0], tmp_path))
        assert config.training.seed == study.seeds[0] and config.run == str(tmp_path / "run")


def test_recipe_sets_all_that_the_quick_start_sets():
    """So that a later quick start does not change the studies that began with an earlier one."""
    settings = yaml.safe_load((STUDIES.parents[1] / "configs/quickstart.yaml").read_text())
    settings = {name: values for name, values in settings.items() if isinstance(values, dict)}
    keys = {f"{section}.{name}" for section, values in settings.items() for name in values} - {"data.name"}
    found = runpy.run_path(str(STUDIES / "definitions.py"))
    assert keys <= set(found["RECIPE"])
