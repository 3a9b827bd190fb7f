"""Results of `evaluate` in a run folder, which users may have edited."""

import json

import pytest
from damage import places, replaced

from sagan_tf.runs.evaluations import read_evaluations
from sagan_tf.runs.folder import Run
from sagan_tf.runs.provenance import _largest

RESULT = {
    "subject": {"generator": "EMA, step 7", "step": 7, "batch_normalization": "moving statistics"},
    "figures": {"frechet_distance": {"title": "FID", "value": 31.5, "error": 0.25, "note": "biased"}},
    "samples": {"count": 2000, "seeds": [0, 1999], "truncation": 0.5, "labels": None},
    "reference": {"data": "/secret/pets/", "split": "train", "count": 300},
    "features": {"name": "Inception", "sha256": "abc"},
    "environment": {"tensorflow": "2.21", "cpu": "EPYC", "cpu_cores": 2, "gpus": ["H100"]},
    "devices": 1,
    "seconds": 3.5,
}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "evaluation").mkdir()
    return Run(tmp_path)


def write(run, result, name="step_00000007-x"):
    (run.evaluation_path / f"{name}.json").write_text(json.dumps(result))


def test_read_evaluations_says_how_figures_were_made(run):
    write(run, RESULT)
    write(run, RESULT | {"subject": RESULT["subject"] | {"step": 3}, "features": None}, "best_step_00000003-x")
    first, second = read_evaluations(run)
    assert (first["step"], first["best"], first["features"]) == (3, True, "pixels") and not second["best"]
    assert second["figures"]["FID"]["text"] == "31.5 ± 0.25 (biased)"
    assert second["how"] == {
        "generator": "EMA, step 7",
        "batch normalization": "moving statistics",
        "samples": "2,000, seeds 0 to 1999, truncation 0.5",
        "data": "pets, split train, 300 images",
        "features": "Inception, SHA-256 abc",
        "versions": "tensorflow 2.21",
        "hardware": "EPYC, 2 cores, H100; 1 device(s) used",
        "measured": "unknown, in 3.5 s",
    }


def test_read_evaluations_names_no_split_of_statistics(run):
    write(run, RESULT | {"reference": {"data": "fid.npz"}})
    (evaluation,) = read_evaluations(run)
    assert evaluation["split"] is None and evaluation["how"]["data"] == "fid.npz"


def test_read_evaluations_skips_results_of_another_form(run):
    for place in places(RESULT):
        for value in (None, "x", -1, [], {}, [1], {"a": []}, float("nan"), float("inf"), 10**400):
            write(run, replaced(RESULT, place, value))
            json.dumps([each | {"pictures": []} for each in read_evaluations(run)], allow_nan=False)
    (run.evaluation_path / "folder.json").mkdir()
    assert len(read_evaluations(run)) <= 1


def test_card_leaves_out_trials_with_fewer_samples(run):
    trial = RESULT | {"samples": RESULT["samples"] | {"count": 100}}
    data_labels = RESULT | {"samples": RESULT["samples"] | {"labels": "data", "count": 1000}}
    other = trial | {"figures": {"kernel_distance": RESULT["figures"]["frechet_distance"] | {"title": "KID"}}}
    other_data = trial | {"reference": RESULT["reference"] | {"data": "/public/pets"}}
    for name, result in {"a": trial, "b": RESULT, "c": other, "d": data_labels, "e": other_data}.items():
        write(run, result, f"step_00000007-{name}")
    kept = _largest(read_evaluations(run))
    kept = [(each["samples"]["count"], list(each["figures"])) for each in kept]
    assert kept == [(2000, ["FID"]), (1000, ["FID"]), (100, ["KID"]), (100, ["FID"])]


def test_summaries_tell_results_of_one_step_apart(run):
    write(run, RESULT)
    write(run, RESULT | {"samples": RESULT["samples"] | {"truncation": 6.0}}, "step_00000007-y")
    write(run, RESULT | {"reference": RESULT["reference"] | {"split": "test"}}, "step_00000007-z")
    assert sorted(evaluation["summary"] for evaluation in read_evaluations(run)) == [
        "2,000 samples against pets, train, by Inception",
        "2,000 samples of truncation 0.5 against pets, test, by Inception",
        "2,000 samples of truncation 0.5 against pets, train, by Inception",
    ]
