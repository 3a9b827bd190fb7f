"""The command `python -m sagan_tf.attend`."""

import functools
import json

import numpy as np
import pytest
from PIL import Image
from small_data import save_picture
from small_runs import KINDS, make_run

from sagan_tf import attend
from sagan_tf.commands.attention_results import AttentionReader
from sagan_tf.commands.options import AttendOptions
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.generation.folding import fold_generator
from sagan_tf.generation.pixels import to_levels
from sagan_tf.generation.sampler import Sampler

pytestmark = pytest.mark.usefixtures("toy_networks")


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_networks):
    return make_run(tmp_path_factory.mktemp("conditional") / "run")


@pytest.fixture
def refusal(command_error):
    return functools.partial(command_error, attend.main)


def test_attend_draws_and_measures_all_layers_of_both_networks(run, capsys):
    attend.main([str(run.path), "--images", "2", "--measured", "3"])
    folder = run.path / "attention"
    kinds = [("generator", "generated"), ("discriminator", "generated"), ("discriminator", "real")]
    pictures = [
        f"{network}_{layer}_{kind}_step_00000200.png"
        for network, kind in kinds
        for layer in (("attention_8", "attention_16") if network == "generator" else ("attention_16", "attention_8"))
    ]
    assert {path.name for path in folder.iterdir()} == {*pictures, "summary_step_00000200.json"}
    for name in pictures:
        with Image.open(folder / name) as picture:
            assert picture.height > 2 * 160 and picture.width > 6 * 160
    summary = json.loads((folder / "summary_step_00000200.json").read_text())
    assert [(each["network"], each["layer"]) for each in summary] == [
        ("generator", "attention_8"),
        ("generator", "attention_16"),
        *[("discriminator", "attention_16"), ("discriminator", "attention_8")] * 2,
    ]
    for each in summary:
        assert 0 <= each["entropy_bits"] <= np.log2(each["keys"]) and 0 < each["distance_px"] < 32
        assert each["gamma"] == pytest.approx(0.7) and each["step"] == 200 and each["images"] == 3
    assert [(each["seed"], each["truncation"]) for each in summary] == [(0, 6.0)] * 4 + [(None, None)] * 2
    *table, means = capsys.readouterr().out.splitlines()[-8:]
    assert means == "Means over 3 generated images from seed 0, truncation none and 3 real images."
    assert table[0].startswith("network") and all(line.startswith(("generator", "discriminator")) for line in table[1:])


def test_attend_arrays_hold_the_images_of_sample_and_their_maps(run, tmp_path):
    names = ["maps_step_00000200.npz"] + [
        f"{network}_{layer}_generated_step_00000200.png"
        for network in ("generator", "discriminator")
        for layer in ("attention_8", "attention_16")
    ]
    for name in names:
        (tmp_path / name).write_text("of the default points")
    options = "--images 3 --measured 1 --npz --seed 5 --points 0,31;31,0 --classes ring,disc --pictures generated"
    attend.main([str(run.path), "--out", str(tmp_path), *options.split()])
    assert {(tmp_path / name).read_text() for name in names} == {"of the default points"}
    beside = {name.replace("200", "200_points_0-31_31-0") for name in names}
    assert {path.name for path in tmp_path.iterdir()} == {*names, *beside, "summary_step_00000200.json"}
    networks = restore_networks(run, discriminator=True)
    sampler = Sampler(fold_generator(networks.generator))
    with np.load(tmp_path / "maps_step_00000200_points_0-31_31-0.npz") as arrays:
        prefix = "generator/attention_16/generated/"
        images, scores = arrays[f"{prefix}images"], arrays[f"{prefix}scores"]
        expected = sampler.sample([5, 6, 7], [1, 0, 1])
        assert abs(images.astype(int) - expected).mean() < 2  # the same image with and without bfloat16
        assert scores.shape == (3, 256, 64)
        np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-3)
        np.testing.assert_array_equal(arrays[f"{prefix}points"], [[[15, 0], [0, 15]]] * 3)
        inputs = Sampler(networks.generator).inputs([5, 6, 7], [1, 0, 1])
        np.testing.assert_array_equal(images, to_levels(networks.generator(inputs, training=False)))
        same = arrays["discriminator/attention_16/generated/images"]
        np.testing.assert_array_equal(same, images)


def test_attend_draws_one_row_per_step_when_step_is_all(run, tmp_path, capsys):
    attend.main([str(run.path), "--out", str(tmp_path), "--step", "all", "--layers", "attention_16", "--images", "1"])
    names = {
        f"{network}_attention_16_{kind}_over_training.png"
        for network, kind in (("generator", "generated"), ("discriminator", "generated"), ("discriminator", "real"))
    }
    assert {path.name for path in tmp_path.iterdir()} == names
    with Image.open(tmp_path / "generator_attention_16_generated_over_training.png") as picture:
        pixels = np.asarray(picture)[40:]
    half = len(pixels) // 2
    assert (pixels[:half] != pixels[half : 2 * half]).any()  # two steps, two rows


def test_attend_measures_symmetry_on_the_mirror_data(tmp_path, capsys):
    run = make_run(tmp_path / "run", steps=(3,), data="mirror", conditional=False, attention_sizes=(16,))
    attend.main([str(run.path), "--network", "discriminator", "--pictures", "real", "--measured", "2"])
    (figures,) = json.loads((run.path / "attention" / "summary_step_00000003.json").read_text())
    assert 0 <= figures["mirror_agreement"] <= 1
    assert "mirror agreement" in capsys.readouterr().out


def test_attend_writes_null_for_a_measure_without_positions(run, tmp_path, monkeypatch):
    measures = {"entropy_bits": 1.0, "mirrored_place": float("nan"), "gamma": 0.5}
    measure = AttentionReader._measure
    monkeypatch.setattr(AttentionReader, "_measure", lambda reader, maps: measure(reader, maps) | measures)
    options = ["--out", str(tmp_path), "--network", "generator", "--layers", "attention_8", "--images", "1"]
    attend.main([str(run.path), *options, "--measured", "1"])
    text = (tmp_path / "summary_step_00000200.json").read_text()
    (row,) = json.loads(text, parse_constant=pytest.fail)
    assert row["mirrored_place"] is None and row["entropy_bits"] == 1


def test_attend_explorer_holds_classes_by_seeds(run, tmp_path):
    options = "--explorer --measured 1 --images 8 --layers attention_8"
    attend.main([str(run.path), "--out", str(tmp_path), *options.split()])
    page = (tmp_path / "explorer_step_00000200.html").read_text()
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert [(each["class"], each["seed"]) for each in data["pictures"]] == [
        (name, seed) for name in ("disc", "ring", "square", "cross") for seed in (0, 1)
    ]
    assert [(each["network"], each["name"]) for each in data["layers"]] == [
        ("generator", "attention_8"),
        ("discriminator", "attention_8"),
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--network", "generator", "--pictures", "real"], "--pictures real: the generator takes no images"),
        (["--pictures", "real", "--seed", "3"], "--seed: real images have none; leave out --seed or --pictures real."),
        (["--pictures", "real", "--truncation", "1"], "--truncation: real images have none; leave out --truncation"),
        (["--step", "all", "--npz"], "--npz: needs a single step; leave out --npz or --step all."),
        (["--step", "all", "--explorer"], "--explorer: needs a single step; leave out --explorer or --step all."),
        (["--step", "all", "--measured", "8"], "--measured: needs a single step; leave out --measured or --step all."),
        (["--layers", "attention_99"], "--layers: there is no layer `attention_99`. Choose from attention_8"),
        (["--step", "7"], "{run}: has no checkpoint of step 7; it has those of 100, 200."),
        (["--step", "last"], f"--step: `last` is not a whole number from 0 to {2**62 - 1} or all."),
        (["--points", "3;4"], "--points: `3` is not a point. Write points as 3,10;20,5, in px from the top left."),
        (["--points", "3,32"], "--points: 3,32 is outside the image, which is 32 px wide and 32 px high."),
        (["--classes", "4"], "--classes: 4 is out of range; the model has the classes 0 to 3."),
        (["--images", "0"], f"--images: `0` is not a whole number from 1 to {2**62 - 1}."),
    ],
)
def test_attend_rejects_bad_options_in_one_line(run, tmp_path, refusal, arguments, line):
    found = refusal(run.path, "--out", tmp_path / "out", *arguments)
    assert found.startswith(line.format(run=run.path)), found
    assert not (tmp_path / "out").exists()


def test_attend_rejects_run_without_attention(tmp_path, refusal):
    run = make_run(tmp_path / "run", steps=(3,), attention_sizes=())
    assert refusal(run.path).startswith(f"{run.path}: the run has no attention layer")


def test_attend_omits_real_images_when_the_data_is_missing(run, tmp_path, capsys, monkeypatch, refusal):
    run = make_run(tmp_path / "run", steps=(3,), data=str(tmp_path / "nowhere"))
    attend.main([str(run.path), "--measured", "1", "--images", "1"])
    assert "Real images are left out: " in capsys.readouterr().err
    assert not list((run.path / "attention").glob("*real*"))
    assert "nowhere" in refusal(run.path, "--pictures", "real")


@pytest.mark.parametrize("classes", [None, ("cross", "ring")])
def test_attend_gives_real_images_of_the_chosen_classes_their_own_labels(run, monkeypatch, classes):
    given = []
    monkeypatch.setattr(AttentionReader, "_read", lambda reader, *arguments: given.append(arguments) or [None])
    with pytest.raises(AttributeError):  # there are no results
        AttentionReader(run, AttendOptions(run=str(run.path), pictures="real", classes=classes)).results(4, 7)
    ((_, pictures, (images, labels), titles, _),) = given
    assert pictures == "real" and len(images) == 7
    assert [f"{KINDS[label]}, real" for label in labels] == list(titles)
    assert {KINDS[label] for label in labels} == set(classes or KINDS)


def test_attend_rejects_data_with_other_classes_than_the_run(tmp_path, capsys, refusal):
    for name in ("cross", "disc", "ring", "zebra"):
        save_picture(tmp_path / "data" / name / "0.png", np.zeros((32, 32, 3), np.uint8))
    run = make_run(tmp_path / "run", steps=(3,), data=str(tmp_path / "data"))
    attend.main([str(run.path), "--measured", "1", "--images", "1"])
    assert "Real images are left out: " in (err := capsys.readouterr().err) and "class `square` is gone" in err
