"""File names of the results of `sagan evaluate`."""

from pathlib import Path
from types import SimpleNamespace

from sagan_tf.commands.evaluate_names import features_name, folder_stem, run_stem
from sagan_tf.commands.options import TRUNCATION_CURVE, EvaluateOptions


def stem(name="a", weights="0123456789", **options):
    return run_stem(name, weights, 7, "inception", EvaluateOptions(subject="run", **options))


def test_run_stem_names_the_truncations_of_a_curve():
    assert stem(truncation_curve=TRUNCATION_CURVE) == "step_00000007-inception-curve"
    assert stem(truncation_curve=(1.5, 0.5, 1.5)) == "step_00000007-inception-curve_0.5_1.5"


def test_results_of_other_paths_and_splits_have_other_names():
    """`../samples` was `samples`, and of a long path the end alone was left: one result replaced the other."""
    end = "pictures/samples_of_the_generator_after_training"
    folders = ["samples", "../samples", f"/data/first/{end}", f"/data/second/{end}", ".", "..", "a_b", "a/b"]
    stems = [folder_stem(Path(folder), "pixels", EvaluateOptions(subject="x")) for folder in folders]
    assert stems[0].startswith("samples_") and len(set(stems)) == len(folders)
    references = [stem(reference=f"/data/{name}/{end}.npz") for name in ("first", "second")]
    assert references[0] != references[1]
    splits = [stem(split=split) for split in ("test", "train[:50%]", "train[50%:]")]
    assert splits[0] == "step_00000007-inception-split_test" and len(set(splits)) == 3


def test_results_of_one_relative_path_in_two_places_have_other_names(tmp_path, monkeypatch):
    names = set()
    for place in ("a", "b"):
        (tmp_path / place / "pictures").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / place)
        options = EvaluateOptions(subject="x", reference="pictures")
        names |= {
            folder_stem(Path("pictures"), "pixels", EvaluateOptions(subject="x")),
            folder_stem(Path(), "", options),
        }
        monkeypatch.chdir(tmp_path)
        assert folder_stem(Path(place, "pictures"), "pixels", EvaluateOptions(subject="x")) in names
    assert len(names) == 4


def test_results_of_runs_in_one_folder_have_other_names():
    """Two runs at the same step gave one result in a folder of --out, the second in place of the first."""
    stems = [stem(*run, out="results") for run in (("a", "12345678"), ("a", "12345679"), ("b", "12345678"))]
    assert stems[0] == "step_00000007-inception-run_a_12345678" and len(set(stems)) == len(stems)


def test_results_of_networks_of_one_name_have_other_names():
    """Two files of one name gave one result, the second in place of the first."""
    networks = [SimpleNamespace(name="a.keras, features", sha256=digit * 64) for digit in "12"]
    names = [features_name(network) for network in networks]
    assert names == ["a.keras_features_11111111", "a.keras_features_22222222"]


def test_long_stems_fit_into_a_file_name_and_differ():
    curves = [tuple(range(1, count)) for count in (90, 91)]
    first, second = (stem(truncation_curve=curve) for curve in curves)
    folder = folder_stem(Path("鳥" * 80), "特" * 40, EvaluateOptions(subject="x"))
    assert first != second and all(len(name.encode()) < 200 for name in (first, second, folder))
