"""The command `python -m sagan_tf.evaluate`."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest
from commands.evaluations import measured, read, refusal, save_pictures
from PIL import Image
from small_data import open_small
from small_runs import make_run

from sagan_tf import cli
from sagan_tf.data import embedded
from sagan_tf.data.fingerprint import portable_fingerprint
from sagan_tf.evaluation import frechet_distance, inception
from sagan_tf.evaluation.collector import Collector
from sagan_tf.evaluation.evaluator import SampleSet
from sagan_tf.evaluation.features import open_features
from sagan_tf.evaluation.metric_names import IMAGE_METRICS, METRICS
from sagan_tf.evaluation.statistics import read_statistics
from sagan_tf.files.hashing import sha256
from sagan_tf.runs.folder import Run

pytestmark = pytest.mark.usefixtures("toy_networks", "small_evaluations")


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory, toy_networks):
    return make_run(tmp_path_factory.mktemp("runs") / "unconditional", conditional=False)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(inception, "URL", "http://127.0.0.1:9/nothing")


def test_evaluate_run_writes_metrics_files_and_provenance(run, features, tmp_path, capsys):
    measured(run.path, "--features", features, "--num-samples", 120, "--out", tmp_path, "--seed", 3)
    out, page = capsys.readouterr().out, read(tmp_path)
    figures = page["figures"]
    assert figures["frechet_distance"]["title"] == "Fréchet distance" and "FID" not in out
    names = {
        "kernel_distance",
        "inception_score",
        "intra_frechet_distance",
        "precision",
        "recall",
        "density",
        "coverage",
        "ms_ssim_within_classes",
        "ms_ssim_of_the_data",
        "rule_score",
        "rule_valid",
    }
    assert names <= set(figures) and all(name.startswith("rule_") for name in page["left_out"])
    labels = "drawn with equal probabilities"
    assert page["samples"] == {"count": 120, "seeds": [3, 122], "truncation": 6.0, "labels": labels}
    assert page["subject"]["step"] == 200 and page["subject"]["batch_normalization"].startswith("moving statistics")
    reference = page["reference"]
    assert (reference["data"], reference["split"], reference["count"]) == ("twins", "train", 240)
    assert len(reference["fingerprint"]) == len(page["features"]["sha256"]) == 64
    assert page["environment"]["tensorflow"] and page["devices"] == 1
    assert "by_class" in figures["intra_frechet_distance"] and len(figures["intra_frechet_distance"]["by_class"]) == 4
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".png", ".png"]
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as picture:
            assert np.asarray(picture).std() > 5
        assert str(path) in out


def test_evaluate_without_inception_measures_what_needs_no_features(run, offline, tmp_path, capsys):
    measured(run.path, "--num_samples", 50, "--out", tmp_path, "--truncation_curve")
    page, lines = read(tmp_path), capsys.readouterr().out.splitlines()
    assert {"ms_ssim_within_classes", "nearest_picture", "nearest_picture_of_the_data", "rule_valid"} <= set(
        page["figures"]
    )
    assert {*METRICS, "truncation_curve"} <= set(page["left_out"]) and page["features"] is None
    (line,) = (line for line in lines if "--inception PATH" in line)
    assert line.startswith("fid, kid, is, ") and "--features" in line and not any(" nan " in line for line in lines)
    assert (page["reference"]["data"], page["reference"]["count"]) == ("twins", 240)
    stem = f"step_00000200-pixels-count_50-curve-run_{run.name}_{page['subject']['weights_sha256'][:8]}"
    names = [f"{stem}{suffix}" for suffix in (".json", "_neighbors.png", "_samples.png")]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert "cannot be downloaded" in refusal(capsys, run.path, "--metrics", "fid", "--out", tmp_path)


def test_evaluate_folder_without_inception_finds_copies(offline, tmp_path, capsys):
    save_pictures(tmp_path / "copies", embedded.render("twins", range(20))[0])
    measured(tmp_path / "copies", "--reference", "twins", "--out", tmp_path / "out")
    figures = read(tmp_path / "out")["figures"]
    assert figures["nearest_picture"]["value"] == 0 < figures["nearest_picture_of_the_data"]["value"]
    assert figures["rule_valid"]["value"] == 1 and "ms_ssim_within_classes" in figures


def test_evaluate_run_matches_distance_of_images_in_memory(run, features, tmp_path):
    """The samples written as files, measured again from arrays in memory."""
    from sagan_tf.experiment.loading import restore_networks
    from sagan_tf.generation.folding import fold_generator
    from sagan_tf.generation.sampler import Sampler

    measured(run.path, "--features", features, "--num-samples", 40, "--out", tmp_path, "--metrics", "fid")
    figures = read(tmp_path)["figures"]
    assert set(figures) == {"frechet_distance"}
    images = Sampler(fold_generator(restore_networks(run).generator)).sample(range(40), SampleSet(40).labels(0, 40, 4))
    real, _ = embedded.render("twins", range(240))
    network = open_features(features)
    want = frechet_distance(network(images)[0], network(real)[0])
    assert figures["frechet_distance"]["value"] == pytest.approx(want, rel=1e-3)


def test_evaluate_folder_accepts_data_folder_and_statistics_as_reference(
    features, tmp_path, capsys, monkeypatch, cache
):
    real, _ = embedded.render("twins", range(240))
    save_pictures(tmp_path / "same", real)
    noise = np.random.default_rng(0).integers(0, 255, (100, 32, 32, 3), dtype=np.uint8)
    save_pictures(tmp_path / "noise", noise)
    monkeypatch.chdir(tmp_path)
    found = {}
    for subject in ("same", "noise"):
        for reference in ("twins", "same", "statistics"):
            if reference == "statistics":  # written by the first measurement
                reference = next(cache.glob("statistics/twins-train-*.npz"))
            out = tmp_path / f"{subject}{len(list(tmp_path.iterdir()))}"
            measured(subject, "--reference", reference, "--features", features, "--image_size", 32, "--out", out)
            found.setdefault(subject, []).append(read(out)["figures"]["frechet_distance"]["value"])
    assert max(found["same"]) < 1e-6 and np.ptp(found["noise"]) < 1e-3 * min(found["noise"])
    assert min(found["noise"]) > 1e3 * max(max(found["same"]), 1e-9)
    assert "intra fid" in capsys.readouterr().out  # reported as missing: a flat folder has no classes


def test_evaluate_records_its_options(run, unconditional, features, tmp_path, capsys):
    common = ("--features", features, "--num_samples", 60, "--metrics", "fid,is,rule,intra_fid")
    options = "--standing 2 --truncation 0.5 --step 100 --labels data --split test"
    measured(run.path, *common, *options.split(), "--out", tmp_path / "a")
    page = read(tmp_path / "a")
    assert page["subject"]["batch_normalization"] == "statistics of 2 new batches of 64"
    assert page["subject"]["step"] == 100 and page["samples"]["truncation"] == 0.5
    assert page["samples"]["labels"] == "drawn as often as in the data"
    assert (page["reference"]["split"], page["reference"]["count"]) == ("test", 80)
    with pytest.raises(SystemExit, match="2"):
        measured(unconditional.path, *common, "--labels", "data", "--out", tmp_path / "b")
    line = capsys.readouterr().err.splitlines()[-1]  # after a warning, since the run has no record of its data
    assert line == "error: --labels data: the generator has no classes; leave the option out."
    measured(unconditional.path, *common, "--at_infinity", "--out", tmp_path / "b")
    page = read(tmp_path / "b")
    assert page["samples"]["labels"] is None and "labels" in page["left_out"]["intra_fid"]
    assert len(page["figures"]["frechet_distance_at_infinity"]["points"]) == 15


def test_evaluate_with_standing_statistics_gives_the_same_by_step(run, features, tmp_path):
    common = (run.path, "--features", features, "--num_samples", 60, "--metrics", "fid")
    choices = {"moving": (), "standing": ("--standing", 2), "by_step": ("--standing", 2, "--step", 200)}
    for name, choice in choices.items():
        measured(*common, *choice, "--out", tmp_path / name)
    value = {name: read(tmp_path / name)["figures"]["frechet_distance"]["value"] for name in choices}
    assert value["by_step"] == pytest.approx(value["standing"], rel=1e-5)
    assert value["by_step"] != pytest.approx(value["moving"], rel=1e-2)


def test_truncation_curve_without_metrics_is_left_out(run, features, tmp_path, capsys):
    common = (run.path, "--features", features, "--num_samples", 8, "--metrics", "is")
    measured(*common, "--out", tmp_path, "--truncation_curve", "1,2")
    page = read(tmp_path)
    assert page["left_out"]["truncation_curve"] == page["left_out"]["is"] and "truncation_curve" not in page
    assert not list(tmp_path.glob("*_curve.png")) and "truncation 1" not in capsys.readouterr().out


def test_evaluate_rejects_bad_input_in_one_line(run, features, tmp_path, capsys, cache):
    save_pictures(tmp_path / "flat", np.zeros((3, 32, 32, 3), np.uint8))
    assert "no such folder" in refusal(capsys, tmp_path / "none")
    curve = "--truncation_curve"
    assert refusal(capsys, run.path, curve, "--metrics", "kid") == f"{curve}: it needs one of the metrics fid, is."
    refused = refusal(capsys, run.path, "--image_height", "3", "--image_width", "5")
    assert refused.startswith("--image_height: a run knows the size")
    both = ("--image_size", "32", "--image_height", "32", "--image_width", "64")
    assert "sets a square" in refusal(capsys, tmp_path / "flat", "--reference", "twins", *both)
    assert "has no latents" in refusal(capsys, tmp_path / "flat", "--reference", "twins", curve)
    assert "--reference" in refusal(capsys, tmp_path / "flat", "--features", features)
    for option in (("--features", features), ("--inception", "x"), ("--refresh",), ("--pixel_range", "0,1")):
        refused = refusal(capsys, run.path, "--metrics", "ms_ssim,rule", *option)
        assert refused.startswith(f"{option[0]}: is for metrics of features; add one, such as fid")
    assert "--at_infinity: extrapolates fid" in refusal(capsys, run.path, "--metrics", "kid", "--at_infinity")
    unused = ("--reference", "twins", "--allow_data_change")
    assert "is for the data of training" in refusal(capsys, run.path, "--features", features, *unused)
    assert "--features; name it" in refusal(capsys, run.path, "--pixel_range", "0,1")
    for option in (("--split", "test"), ("--num_reference", "100"), ("--refresh",), ("--download",)):
        refused = refusal(capsys, run.path, "--features", features, "--reference", tmp_path / "theirs.npz", *option)
        assert refused == f"{option[0]}: a file of statistics is not a data set; name one, or leave the option out."
    for name in ("--inception", "--inception_sha256"):
        assert "give one or the other" in refusal(capsys, run.path, "--features", features, name, "abc")
    assert refusal(capsys, run.path, "--metrics", "fidd") == (
        f"--metrics: `fidd` is not one of {', '.join(METRICS + IMAGE_METRICS)}. Did you mean `fid`?"
    )
    assert refusal(capsys, run.path, "--num_samples", "1") == (
        f"--num_samples: `1` is not a whole number from 2 to {2**62 - 1}."
    )
    assert refusal(capsys, run.path, "--features", features, "--reference", "./missing").startswith("--reference: ")
    missing = refusal(capsys, run.path, "--features", features, "--reference", "nothing_of_this_name")
    assert missing.endswith("neither a folder nor a TensorFlow Datasets name. --reference may be the path of a folder.")
    assert "no generator was evaluated" in refusal(capsys, run.path, "--features", features, "--best")
    assert "no checkpoint of step 3" in refusal(capsys, run.path, "--features", features, "--step", "3")
    np.savez(tmp_path / "theirs.npz", mu=np.zeros(5), sigma=np.eye(5))
    theirs = refusal(capsys, run.path, "--features", features, "--reference", tmp_path / "theirs.npz")
    assert "holds 5 features" in theirs
    measured(run.path, "--features", features, "--num_samples", 20, "--metrics", "fid", "--out", tmp_path / "made")
    capsys.readouterr()
    statistics = next(cache.glob("statistics/twins-train-*.npz"))
    keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(8), keras.layers.Dense(4)]
    ).save(tmp_path / "other.keras")
    other = refusal(capsys, run.path, "--features", tmp_path / "other.keras", "--reference", statistics)
    assert "made with other features than other.keras:input of dense" in other and "`name` is" in other
    other = refusal(capsys, run.path, "--features", features, "--pixel_range", "0,1", "--reference", statistics)
    assert "made with other features" in other and "`preprocessing` is" in other
    assert read_statistics(statistics).count == 240
    assert not (run.path / "evaluation").exists()


def test_evaluate_rejects_data_that_are_not_those_of_the_run(features, tmp_path, capsys):
    images, labels = embedded.render("twins", range(40))
    for kind in range(4):
        save_pictures(tmp_path / "data" / embedded.KINDS[kind], images[labels == kind])
    run = make_run(tmp_path / "run", data=str(tmp_path / "data"))
    # `make_run` saves the names in another order than that of the folders.
    options = [run.path, "--features", features, "--num_samples", 20, "--metrics", "fid,intra_fid"]
    assert "the classes are in another order" in refusal(capsys, *options)
    run.save_fingerprint(portable_fingerprint(open_small(tmp_path / "data")))
    run.save_class_names(sorted(embedded.KINDS))
    measured(*options, "--out", tmp_path / "same")
    assert "intra_fid" not in read(tmp_path / "same")["left_out"]
    (tmp_path / "data" / "disc").rename(tmp_path / "data" / "zebra")
    line = refusal(capsys, *options)
    assert "(class `disc` -> `zebra`)" in line and line.endswith("or continue with --allow_data_change.")
    measured(*options, "--out", tmp_path / "changed", "--allow_data_change")
    assert "labels" in read(tmp_path / "changed")["left_out"]["intra_fid"]  # those of other classes
    capsys.readouterr()
    line = refusal(capsys, *options, "--reference", tmp_path / "data", "--labels", "data")
    assert "does not have the classes of the generator" in line
    assert "has no split `test`" in refusal(capsys, *options, "--split", "test")


def test_evaluate_pairs_classes_of_a_run_without_record_only_with_as_many(run, features, tmp_path):
    """As of a converted one: an intra-FID of labels 0 to 999 against those of other classes came out."""
    images, labels = embedded.render("twins", range(40))
    for kind in range(4):
        save_pictures(tmp_path / "four" / embedded.KINDS[kind], images[labels == kind])
        if kind < 2:
            save_pictures(tmp_path / "two" / embedded.KINDS[kind], images[labels == kind])
    unknown = Run(shutil.copytree(run.path, tmp_path / "run"))
    for path in (unknown.fingerprint_path, unknown.class_names_path):
        path.unlink(missing_ok=True)
    config = unknown.config_path.read_text()
    assert config.count("name: twins\n") == 1
    # Those of embedded data are known by their name, and are in another order than the folders.
    for reference, name, is_left_out in (("four", "other", False), ("two", "other", True), ("four", "twins", True)):
        unknown.config_path.write_text(config.replace("name: twins\n", f"name: {name}\n"))
        measured(unknown.path, "--features", features, "--num_samples", 40, "--metrics", "fid,intra_fid",
                 "--reference", tmp_path / reference, "--out", tmp_path / f"{name}_of_{reference}")  # fmt: skip
        assert ("intra_fid" in read(tmp_path / f"{name}_of_{reference}")["left_out"]) == is_left_out


def test_evaluate_keeps_results_of_other_options(run, features, tmp_path):
    common = (run.path, "--features", features, "--out", tmp_path, "--num_samples", 20)
    for further in ((), ("--seed", 9), ("--split", "test", "--labels", "data"), ("--metrics", "fid"),
                    ("--reference", "twins")):  # fmt: skip
        measured(*common, *further)
    stem = f"step_00000200-small.keras_input_of_classes_{sha256(features)[:8]}-count_20"
    parts = ("-against_twins", "-fid", "-labels_data-split_test", "", "-seed_9")
    found = sorted(path.name.partition("-run_")[0] for path in tmp_path.glob("*.json"))
    assert found == sorted(f"{stem}{part}" for part in parts)


def test_evaluate_measures_a_folder_with_the_name_of_a_data_set(offline, tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), dtype=np.uint8)
    save_pictures(tmp_path / "twins", noise)
    monkeypatch.chdir(tmp_path)
    measured("./twins", "--reference", "twins", "--metrics", "rule", "--out", "out")
    page = read(tmp_path / "out")
    assert page["subject"]["count"] == 12 and page["figures"]["rule_score"]["value"] == 0


def test_evaluate_leaves_out_the_rule_of_colors_for_gray_images(offline, tmp_path, monkeypatch):
    """All gray levels have one direction of color: independent halves agreed in all images."""
    monkeypatch.chdir(tmp_path)
    save_pictures(tmp_path / "gray", embedded.render("twins", range(12), channels=1)[0][..., 0])
    measured("gray", "--reference", "twins", "--metrics", "rule,ms_ssim", "--out", "out")
    page = read(tmp_path / "out")
    assert not any(name.startswith("rule") for name in page["figures"]) and "ms_ssim_within_classes" in page["figures"]
    assert "the images are gray" in page["left_out"]["rule_score"]


def test_evaluate_reads_prepared_images_as_they_are(offline, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_pictures(tmp_path / "gray", embedded.render("twins", range(12), channels=1)[0][..., 0])
    cli.main("prepare gray --out ready --image_size 32 --image_channels 1 --resize bicubic".split())
    measured("ready", "--reference", "ready", "--metrics", "ms_ssim,nearest", "--out", "out")
    assert read(tmp_path / "out")["figures"]["nearest_picture"]["value"] == 0
    refused = refusal(capsys, "ready", "--reference", "ready", "--seed", "5")
    assert refused == "--seed: a folder of images has no latents; name a run, or leave the option out."


def test_evaluate_does_not_continue_with_another_generator(features, tmp_path, monkeypatch):
    runs = [make_run(tmp_path / name / "run", seed=seed) for name, seed in (("a", 1), ("b", 2))]
    options = ("--features", features, "--num_samples", 40, "--metrics", "fid", "--batch_size", 8)

    def interrupt(self, *arguments, add=Collector.add):
        if self.done >= 16:
            raise KeyboardInterrupt
        add(self, *arguments)

    monkeypatch.setattr(Collector, "add", interrupt)
    with pytest.raises(SystemExit):
        measured(runs[0].path, *options, "--out", tmp_path / "shared")
    monkeypatch.undo()
    assert list((tmp_path / "shared").glob("*.collecting"))
    found = []
    for out in ("shared", "alone"):
        measured(runs[1].path, *options, "--out", tmp_path / out)
        found.append(read(tmp_path / out)["figures"]["frechet_distance"]["value"])
    assert found[0] == found[1]


def test_evaluate_makes_a_reference_as_the_images_of_the_run(run, tmp_path, monkeypatch, offline):
    config = run.config()
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, resize="lanczos3"))
    monkeypatch.setattr(Run, "config", lambda self: other)
    save_pictures(tmp_path / "folder", np.random.default_rng(0).integers(0, 255, (4, 80, 80, 3), np.uint8))
    measured(run.path, "--reference", tmp_path / "folder", "--metrics", "nearest", "--out", tmp_path / "out")
    assert read(tmp_path / "out")["reference"]["resize"] == "lanczos3"
