"""`sagan evaluate` in parts: interrupted and continued, and by several workers."""

import json

import filelock
import pytest
from commands.evaluations import measured, read, refusal

from sagan_tf.evaluation.collector import Collector
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.files.hashing import sha256, sha256_of_parts

pytestmark = pytest.mark.usefixtures("toy_networks", "small_evaluations")


def stem_of(run, features, count):
    """File name, without suffix, of a result in a folder of --out."""
    weights = sha256_of_parts(weight.tobytes() for weight in restore_networks(run).generator.get_weights())
    network = f"small.keras_input_of_classes_{sha256(features)[:8]}"
    return f"step_00000200-{network}-count_{count}-run_{run.name}_{weights[:8]}"


def test_evaluate_resumes_when_interrupted(run, features, tmp_path, monkeypatch, capsys):
    add, seen = Collector.add, []

    def breaking(self, rows, *more):
        if self._count == 100:
            if self.done == 48 and "interrupted" not in seen:
                seen.append("interrupted")
                raise KeyboardInterrupt
            seen.append(self.done)
        return add(self, rows, *more)

    monkeypatch.setattr(Collector, "add", breaking)
    arguments = (run.path, "--features", features, "--num_samples", 100, "--batch_size", 16, "--metrics", "fid")
    with pytest.raises(SystemExit) as caught:
        measured(*arguments, "--out", tmp_path / "broken")
    assert caught.value.code == 130
    assert seen.pop() == "interrupted" and seen == [0, 16, 32]
    seen[:] = ["interrupted"]
    measured(*arguments, "--out", tmp_path / "broken")
    assert seen[:2] == ["interrupted", 48]
    measured(*arguments, "--out", tmp_path / "whole")
    values = [read(tmp_path / name)["figures"]["frechet_distance"]["value"] for name in ("broken", "whole")]
    assert values[0] == pytest.approx(values[1], rel=1e-9)  # other summation order
    assert not list((tmp_path / "broken").glob("*collecting*"))


def test_evaluate_shares_samples_among_workers(run, features, tmp_path, monkeypatch, capsys):
    arguments = (run.path, "--features", features, "--num_samples", 101, "--metrics", "fid,kid,is,intra_fid")
    arguments += ("--truncation_curve", "0.5,1,6")
    measured(*arguments, "--out", tmp_path / "alone")
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines() if line.startswith("trunc")] == [
        ["truncation", value] for value in ("0.5", "1", "none")
    ]
    for index in (2, 1, 0):  # chief last, so that it need not wait
        cluster = {"worker": ["a:1", "b:1", "c:1"]}
        task = {"type": "worker", "index": index}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
        measured(*arguments, "--out", tmp_path / "together")
        assert ("Fréchet distance" in capsys.readouterr().out) == (index == 0)
    alone, together = (read(tmp_path / name)["figures"] for name in ("alone", "together"))
    assert set(alone) == set(together) >= {"frechet_distance", "inception_score", "intra_frechet_distance"}
    for name, figure in alone.items():
        assert together[name]["value"] == pytest.approx(figure["value"], rel=1e-6), name
    assert sorted(path.suffix for path in (tmp_path / "together").iterdir()) == [".json", ".png", ".png", ".png"]
    monkeypatch.delenv("TF_CONFIG")
    measured(*arguments[:-2], "--truncation", 0.5, "--out", tmp_path / "truncated")
    truncated = read(tmp_path / "truncated")["figures"]
    for folder in ("alone", "together"):
        curve = {point["truncation"]: point["figures"] for point in read(tmp_path / folder)["truncation_curve"]}
        assert list(curve) == [0.5, 1, 6]
        for name in ("frechet_distance", "inception_score"):
            assert curve[0.5][name]["value"] == pytest.approx(truncated[name]["value"], rel=1e-6)
            assert curve[6][name]["value"] == pytest.approx(alone[name]["value"], rel=1e-6)
            assert curve[0.5][name]["value"] != pytest.approx(curve[1][name]["value"], rel=1e-5)


def test_evaluate_names_the_missing_share(run, features, tmp_path, monkeypatch, capsys):
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    monkeypatch.setattr("sagan_tf.commands.evaluate_features._WORKERS_MINUTES", 0.01)
    arguments = (run.path, "--features", features, "--num_samples", 40, "--out", tmp_path)
    with pytest.raises(SystemExit) as caught:
        measured(*arguments)
    err = capsys.readouterr().err
    assert caught.value.code == 2 and f"missing: {stem_of(run, features, 40)}.share_2_of_2.npz" in err
    assert not list(tmp_path.glob("*.json"))


def test_evaluate_rejects_folder_in_use_by_another_process(run, features, tmp_path, capsys):
    with filelock.FileLock(tmp_path / f"{stem_of(run, features, 20)}.0.lock"):
        arguments = ("--features", features, "--num_samples", 20, "--out", tmp_path)
        assert "another process measures the same" in refusal(capsys, run.path, *arguments)
