"""The command `python -m sagan_tf.evaluate`."""

import functools
import json
import re

import filelock
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_data import open_small
from small_runs import make_run

from sagan_tf import cli, evaluate
from sagan_tf.commands import evaluate as command
from sagan_tf.data import embedded
from sagan_tf.data.fingerprint import portable_fingerprint
from sagan_tf.evaluation import frechet_distance, inception
from sagan_tf.evaluation.collector import Collector
from sagan_tf.evaluation.evaluator import Evaluator, SampleSet
from sagan_tf.evaluation.features import open_features
from sagan_tf.evaluation.metric_names import METRICS, PICTURE_METRICS
from sagan_tf.evaluation.statistics import read_statistics
from sagan_tf.export.model_card import to_markdown
from sagan_tf.runs.provenance import describe_training
from sagan_tf.runs.report import describe_run

pytestmark = pytest.mark.usefixtures("toy_networks")


@pytest.fixture(autouse=True)
def small(monkeypatch, cache):
    monkeypatch.setattr(embedded, "SPLITS", {"train": 240, "test": 80})
    monkeypatch.setenv("SAGAN_TF_CACHE", str(cache))


@pytest.fixture(scope="module", autouse=True)
def shared_graphs():
    """Generators of the same weights are folded, feature networks opened, and both traced, once."""
    folded, samplers = {}, {}
    fold, make_sampler = command.fold_generator, Evaluator.sampler

    def fold_once(generator):
        key = b"".join(weight.tobytes() for weight in generator.get_weights())
        if key not in folded:
            folded[key] = fold(generator)
        return folded[key]

    def make_sampler_once(evaluator, generator):
        key = id(generator), id(evaluator.network), evaluator.batch_size
        if key not in samplers:
            samplers[key] = make_sampler(evaluator, generator)
        return samplers[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "fold_generator", fold_once)
        patch.setattr(command, "open_features", functools.cache(command.open_features))
        patch.setattr(Evaluator, "sampler", make_sampler_once)
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(8, 5, strides=3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
            keras.layers.Dense(4, activation="softmax", name="classes"),
        ]
    )
    path = tmp_path_factory.mktemp("features") / "small.keras"
    model.save(path)
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_networks):
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def unconditional(tmp_path_factory, toy_networks):
    return make_run(tmp_path_factory.mktemp("runs") / "unconditional", conditional=False)


def measured(*arguments):
    evaluate.main([str(argument) for argument in arguments])


def read(folder):
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def refusal(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        measured(*arguments)
    lines = capsys.readouterr().err.splitlines()
    err = [line for line in lines if line.strip() and not any(unit in line for unit in ("img/s", "block/s", "file/s"))]
    assert caught.value.code == 2 and len(err) == 1 and err[0].startswith("error: ")
    return err[0].removeprefix("error: ")


def save_pictures(folder, images):
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:04d}.png")


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


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(inception, "URL", "http://127.0.0.1:9/nothing")


def test_evaluate_without_inception_measures_what_needs_no_features(run, offline, tmp_path, capsys):
    measured(run.path, "--num_samples", 50, "--out", tmp_path)
    page, lines = read(tmp_path), capsys.readouterr().out.splitlines()
    assert {"ms_ssim_within_classes", "nearest_picture", "nearest_picture_of_the_data", "rule_valid"} <= set(
        page["figures"]
    )
    assert set(METRICS) <= set(page["left_out"]) and page["features"] is None
    (line,) = (line for line in lines if "--inception PATH" in line)
    assert line.startswith("fid, kid, is, ") and "--features" in line and not any(" nan " in line for line in lines)
    assert (page["reference"]["data"], page["reference"]["count"]) == ("twins", 240)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step_00000200-pixels.json",
        "step_00000200-pixels_neighbours.png",
        "step_00000200-pixels_samples.png",
    ]
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
            out = tmp_path / f"{subject}{len(found)}"
            measured(subject, "--reference", reference, "--features", features, "--image_size", 32, "--out", out)
            found.setdefault(subject, []).append(read(out)["figures"]["frechet_distance"]["value"])
    assert max(found["same"]) < 1e-6 and np.ptp(found["noise"]) < 1e-3 * min(found["noise"])
    assert min(found["noise"]) > 1e3 * max(max(found["same"]), 1e-9)
    assert "intra fid" in capsys.readouterr().out  # reported as missing: a flat folder has no classes


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
    monkeypatch.setattr("sagan_tf.commands.evaluate._WORKERS_MINUTES", 0.01)
    arguments = (run.path, "--features", features, "--num_samples", 40, "--out", tmp_path)
    with pytest.raises(SystemExit) as caught:
        measured(*arguments)
    err = capsys.readouterr().err
    assert caught.value.code == 2 and "missing: step_00000200-small.keras_input_of_classes.share_2_of_2.npz" in err
    assert not list(tmp_path.glob("*.json"))


def test_evaluate_records_its_options(run, unconditional, features, tmp_path):
    common = ("--features", features, "--num_samples", 60, "--metrics", "fid,is,rule,intra_fid")
    measured(
        run.path,
        *common,
        "--standing",
        2,
        "--truncation",
        0.5,
        "--step",
        100,
        "--labels",
        "data",
        "--split",
        "test",
        "--out",
        tmp_path / "a",
    )
    page = read(tmp_path / "a")
    assert page["subject"]["batch_normalization"] == "statistics of 2 new batches of 64"
    assert page["subject"]["step"] == 100 and page["samples"]["truncation"] == 0.5
    assert page["samples"]["labels"] == "drawn as often as in the data"
    assert (page["reference"]["split"], page["reference"]["count"]) == ("test", 80)
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


def test_evaluate_rejects_bad_input_in_one_line(run, features, tmp_path, capsys, cache):
    save_pictures(tmp_path / "flat", np.zeros((3, 32, 32, 3), np.uint8))
    assert "no such folder" in refusal(capsys, tmp_path / "none")
    curve = "--truncation_curve"
    assert refusal(capsys, run.path, curve, "--metrics", "kid") == f"{curve}: it needs one of the metrics fid, is."
    assert "has no latents" in refusal(capsys, tmp_path / "flat", "--reference", "twins", curve)
    assert "--reference" in refusal(capsys, tmp_path / "flat", "--features", features)
    assert refusal(capsys, run.path, "--metrics", "fidd") == (
        f"--metrics: `fidd` is not one of {', '.join(METRICS + PICTURE_METRICS)}. Did you mean `fid`?"
    )
    assert refusal(capsys, run.path, "--num_samples", "1") == (
        f"--num_samples: `1` is not a whole number from 2 to {2**62 - 1}."
    )
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
    assert "made with the features small.keras" in other
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


def test_model_card_lists_evaluations(features, tmp_path):
    run = make_run(tmp_path / "run")
    measured(run.path, "--features", features, "--num_samples", 20, "--metrics", "fid,kid")
    (run.evaluation_path / "step_00000200-damaged.json").write_text('{"subject": {"step": 200}, "samples": 3}')
    (evaluation,) = describe_training(run)["evaluations"]
    assert set(evaluation["figures"]) == {"Fréchet distance", "kernel distance"}
    assert evaluation["samples"]["count"] == 20
    card = {
        "name": "sagan",
        "exported_at": "now",
        "licence": "",
        "versions": {},
        "files": [],
        "generator": {
            "num_classes": 4,
            "image_width": 32,
            "image_height": 32,
            "image_channels": 3,
            "latent_dim": 12,
            "parameters": 1,
            "attention_maps": {},
        },
        "training": describe_training(run),
        "loading": {},
        "samples": None,
    }
    value = evaluation["figures"]["Fréchet distance"]["value"]
    assert f"| Fréchet distance | {value:.6g} |" in to_markdown(card)
    text = to_markdown(card)
    assert "20 samples from seed 0" in text and "by small.keras" in text and "0 disc, 1 ring" in text
    rows = dict(re.findall(r"^\| made with: ([^|]+) \| (.+) \|$", text, re.MULTILINE))
    assert rows["samples"] == "20, seeds 0 to 19, no truncation, labels drawn with equal probabilities"
    assert rows["data"] == "twins, split train, 240 pictures" and "step 200" in rows["generator"]
    assert f"tensorflow {tf.__version__}" in rows["versions"] and "cores" in rows["hardware"]
    assert "kernel distance" in run.report_path.read_text(encoding="utf-8")
    record = describe_run(run)
    assert record.evaluations[0]["how"] == list(evaluation["how"].items())
    assert [path.suffix for path in record.evaluations[0]["pictures"]] == [".png", ".png"]


def test_evaluate_rejects_folder_in_use_by_another_process(run, features, tmp_path, capsys):
    with filelock.FileLock(tmp_path / "step_00000200-small.keras_input_of_classes.0.lock"):
        arguments = ("--features", features, "--num_samples", 20, "--out", tmp_path)
        assert "another process measures the same" in refusal(capsys, run.path, *arguments)


def test_evaluate_is_a_verb_of_the_console_script(capsys):
    for call in (lambda: cli.main(["evaluate", "--help"]), lambda: evaluate.main(["--help"])):
        with pytest.raises(SystemExit) as caught:
            call()
        assert caught.value.code == 0
        assert "--num_samples" in capsys.readouterr().out
