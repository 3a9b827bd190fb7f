"""The SavedModel outside this package: in TensorFlow, in its C++ session, and with TF Serving's messages.

`SAGAN_OLD_TENSORFLOW` names a Python with TensorFlow 2.15, which must give the same images.
"""

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from export.c_loader import Session
from export.generators import LATENT_DIM, NUM_CLASSES, images_of, make_generator, make_inputs, make_toy_generator
from PIL import Image
from tensorflow.python.tools import saved_model_cli as command_line

from sagan_tf.export import export_keras, export_saved_model, fold_generator, warm_up
from sagan_tf.generation.latents import draw_latents, interpolate_latents, interpolate_rows
from sagan_tf.generation.pixels import to_levels

TOLERANCE = 3e-5
CONDITIONAL = {
    "serving_default": {"latent", "label"},
    "sample": {"seed", "label", "truncation"},
    "interpolate": {"start_seed", "end_seed", "start_label", "end_label", "fraction", "truncation"},
    "attention": {"latent", "label"},
}


@pytest.fixture(scope="module")
def exported(shared_folder):
    """The SavedModel of the generator, beside its weights."""

    def write(folder):
        generator = make_generator()
        generator.save_weights(folder / "generator.weights.h5")
        export_saved_model(generator, folder / "sagan")

    return shared_folder("saved_model", write) / "sagan" / "1"


@pytest.fixture(scope="module")
def generator(exported):
    generator = make_generator()
    generator.load_weights(exported.parents[1] / "generator.weights.h5")
    return generator


@pytest.fixture(scope="module")
def toy():
    """For what does not depend on the network."""
    return make_toy_generator()


@pytest.fixture(scope="module")
def folded(generator):
    return fold_generator(generator)


@pytest.fixture(scope="module")
def session(exported):
    return Session(exported)


def ints(*values):
    return np.array(values, np.int64)


def labels(*values):
    return np.array(values, np.int32)


def floats(*values):
    return np.array(values, np.float32)


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_saved_model_matches_generator(generator, session):
    latent, label = make_inputs()
    images = session.run("serving_default", latent=latent, label=label)["image"]
    np.testing.assert_allclose(images, images_of(generator, [latent, label]), atol=TOLERANCE)


def test_saved_model_attention_matches_folded_generator(folded, session):
    latent, label = make_inputs()
    outputs = session.run("attention", latent=latent, label=label)
    expected = folded.generate(latent, label)
    assert set(outputs) == {"image", "attention_8", "attention_16"}
    for name, value in outputs.items():
        np.testing.assert_allclose(value, expected[name], atol=TOLERANCE)


def test_saved_model_sample_matches_generator(generator, session):
    seeds, label, truncation = ints(5, -7, 2**62), labels(4, 0, 2), floats(0.5, 1, 9)
    pictures = session.run("sample", seed=seeds, label=label, truncation=truncation)["image_bytes"]
    expected = images_of(generator, [draw_latents(seeds, truncation, LATENT_DIM).numpy(), label])
    for picture, image in zip(pictures, expected, strict=True):
        difference = np.abs(np.int16(decoded(picture)) - to_levels(image))
        # A value between two levels may be rounded either way.
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_saved_model_sample_is_independent_of_the_batch(session):
    rng = np.random.default_rng(0)
    seeds, label, truncation = np.arange(16), rng.integers(0, 5, 16, np.int32), np.float32(rng.uniform(0.3, 3, 16))
    batch = session.run("sample", seed=seeds, label=label, truncation=truncation)["image_bytes"]
    for rows in ([3], [0, 1], [9, 3, 11], list(range(15, -1, -1))):
        subset = session.run("sample", seed=seeds[rows], label=label[rows], truncation=truncation[rows])["image_bytes"]
        assert (subset == batch[rows]).all()


def test_saved_model_interpolation_ends_at_the_samples(session):
    ends = dict(start_seed=ints(1, 1), end_seed=ints(2, 2), start_label=labels(0, 0), end_label=labels(3, 3))
    between = session.run("interpolate", **ends, fraction=floats(0, 1), truncation=floats(1, 1))["image_bytes"]
    samples = session.run("sample", seed=ints(1, 2), label=labels(0, 3), truncation=floats(1, 1))["image_bytes"]
    assert (between == samples).all()


def test_saved_model_interpolation_matches_folded_generator(folded, session):
    ends = dict(start_seed=ints(1), end_seed=ints(2), start_label=labels(0), end_label=labels(3))
    picture = session.run("interpolate", **ends, fraction=floats(0.3), truncation=floats(1))["image_bytes"][0]
    fraction = tf.constant([0.3])
    start, end = (draw_latents(ints(seed), floats(1), LATENT_DIM) for seed in (1, 2))
    row = interpolate_rows(*(folded.class_rows.value[i : i + 1] for i in (0, 3)), fraction)
    expected = to_levels(folded.body([interpolate_latents(start, end, fraction), row])["image"])[0]
    assert np.abs(np.int16(decoded(picture)) - expected).max() <= 1


LATENT, LABEL = make_inputs(3)
LABEL = labels(0, 1, 2)
ENDS = dict(start_seed=ints(1), end_seed=ints(2), start_label=labels(0), end_label=labels(3))
BAD = [
    ("serving_default", dict(latent=LATENT, label=labels(0, 1, NUM_CLASSES)), "`label` must be in 0 .. 4"),
    ("serving_default", dict(latent=LATENT, label=labels(0, 1, -1)), "`label` must be in 0 .. 4"),
    ("attention", dict(latent=LATENT, label=labels(-5, 1, 2)), "`label` must be in 0 .. 4"),
    ("sample", dict(seed=ints(1), label=labels(-1), truncation=floats(1)), "`label` must be in 0 .. 4"),
    ("interpolate", dict(ENDS, start_label=labels(5), fraction=floats(0), truncation=floats(1)), "`start_label` must"),
    ("interpolate", dict(ENDS, end_label=labels(-1), fraction=floats(0), truncation=floats(1)), "`end_label` must"),
    ("interpolate", dict(ENDS, fraction=floats(1.1), truncation=floats(1)), "`fraction` must be in [0, 1]"),
    ("interpolate", dict(ENDS, fraction=floats(-0.1), truncation=floats(1)), "`fraction` must be in [0, 1]"),
    ("sample", dict(seed=ints(1), label=labels(0), truncation=floats(0)), "`truncation` must be above 0"),
    ("sample", dict(seed=ints(1), label=labels(0), truncation=floats(-1)), "`truncation` must be above 0"),
    ("sample", dict(seed=ints(1), label=labels(0), truncation=floats(np.nan)), "`truncation` must be finite"),
    ("serving_default", dict(latent=LATENT * np.inf, label=LABEL), "`latent` must be finite"),
    ("serving_default", dict(latent=LATENT[:, :-1], label=LABEL), "`latent` must have the shape (B, 12)"),
    ("serving_default", dict(latent=LATENT[0], label=LABEL[:1]), "`latent` must have the shape"),
    ("serving_default", dict(latent=LATENT[None], label=LABEL[:1]), "`latent` must have the shape"),
    ("serving_default", dict(latent=LATENT, label=LABEL[:1]), "`label` must have the shape"),
    ("serving_default", dict(latent=LATENT[:1], label=LABEL), "`label` must have the shape"),
    ("serving_default", dict(latent=LATENT, label=LABEL[:, None]), "`label` must have the shape"),
    ("serving_default", dict(latent=LATENT[:1], label=LABEL[0]), "`label` must have the shape"),
    ("serving_default", dict(latent=LATENT[:0], label=LABEL[:0]), "must have the shape (B, 12), B >= 1"),
    ("sample", dict(seed=ints(1, 2), label=labels(0, 1), truncation=floats(1)), "`truncation` must have the shape"),
    ("sample", dict(seed=ints(1)[0], label=labels(1)[0], truncation=floats(1)[0]), "must have the shape (B,)"),
]


@pytest.mark.parametrize(("signature", "inputs", "message"), BAD)
def test_saved_model_graph_rejects_bad_request(session, signature, inputs, message):
    with pytest.raises(RuntimeError) as caught:
        session.run(signature, **inputs)
    assert message in str(caught.value)


def test_saved_model_rejects_bad_label_in_tensorflow_1_session(exported):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(exported)).signature_def["serving_default"]
        names = {name: info.name for name, info in signature.inputs.items()}
        fetched = signature.outputs["image"].name
        good = session.run(fetched, {names["latent"]: LATENT, names["label"]: LABEL})
        assert good.shape == (3, 32, 32, 3)
        with pytest.raises(tf.errors.InvalidArgumentError, match="`label` must be in 0 .. 4"):
            session.run(fetched, {names["latent"]: LATENT, names["label"]: labels(0, -1, 0)})


# Run by Pythons that cannot import sagan_tf.
ELSEWHERE = """
import hashlib, json, sys
sys.modules["sagan_tf"] = None  # importing it would raise
import numpy as np, tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
inputs = np.load(sys.argv[2])
call = lambda name, **inputs: signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
image = call("serving_default", latent=inputs["latent"], label=inputs["label"])["image"].numpy()
maps = call("attention", latent=inputs["latent"], label=inputs["label"])
one = dict(truncation=np.float32([1, 0.5]))
png = call("sample", seed=np.int64([3, 4]), label=np.int32([0, 1]), **one)["image_bytes"].numpy()
ends = dict(start_seed=np.int64([1, 1]), end_seed=np.int64([2, 3]))
ends |= dict(start_label=np.int32([0, 1]), end_label=np.int32([2, 2]), fraction=np.float32([0.5, 1]))
between = call("interpolate", **ends, **one)["image_bytes"].numpy()
try:
    call("serving_default", latent=inputs["latent"], label=inputs["label"] - 100)
    refused = False
except tf.errors.InvalidArgumentError:
    refused = True
print(json.dumps({
    "image": image.ravel().tolist(), "maps": sorted(maps), "refused": refused, "signatures": sorted(signatures),
    "pictures": [hashlib.sha256(p).hexdigest() for p in [*png, *between]],
}))
"""
LOAD_WITH_KERAS = """
import keras
model = keras.models.load_model(sys.argv[3])
given = [inputs["latent"], inputs["label"]]
maps = keras.Model(model.inputs, model.get_layer("attention_16_scores").output).predict(given, verbose=0)
print(json.dumps([model.predict(given, verbose=0).ravel().tolist(), maps.shape]))
"""


def run_elsewhere(python, exported, tmp_path, script=ELSEWHERE, *arguments):
    """The JSON lines that a script prints."""
    np.savez(tmp_path / "given.npz", latent=LATENT, label=LABEL)
    command = [python, "-c", script, str(exported), str(tmp_path / "given.npz"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]


def check_elsewhere(result, generator):
    image = np.reshape(result["image"], (3, 32, 32, 3))
    np.testing.assert_allclose(image, images_of(generator, [LATENT, LABEL]), atol=TOLERANCE)
    assert result["signatures"] == sorted(CONDITIONAL) and result["refused"]
    assert result["maps"] == ["attention_16", "attention_8", "image"]


def test_saved_model_and_keras_file_load_without_sagan_tf(generator, exported, tmp_path):
    path = export_keras(generator, tmp_path / "deep" / "generator.keras")
    result, keras_result = run_elsewhere(sys.executable, exported, tmp_path, ELSEWHERE + LOAD_WITH_KERAS, path)
    check_elsewhere(result, generator)
    image, shape = keras_result
    expected = images_of(generator, [LATENT, LABEL])
    np.testing.assert_allclose(np.reshape(image, (3, 32, 32, 3)), expected, atol=TOLERANCE)
    assert shape == [3, 256, 64]


@pytest.mark.skipif(
    "SAGAN_OLD_TENSORFLOW" not in os.environ, reason="SAGAN_OLD_TENSORFLOW names no Python with TensorFlow 2.15"
)
def test_saved_model_gives_same_images_in_tensorflow_2_15(generator, exported, tmp_path):
    (result,) = run_elsewhere(os.environ["SAGAN_OLD_TENSORFLOW"], exported, tmp_path)
    check_elsewhere(result, generator)
    (here,) = run_elsewhere(sys.executable, exported, tmp_path)
    assert result["pictures"] == here["pictures"]


def saved_model_cli(*arguments):
    """Runs TensorFlow's command `saved_model_cli`."""
    with flagsaver.flagsaver():
        flags.FLAGS(["saved_model_cli", *map(str, arguments)])
        getattr(command_line, arguments[0])()


def test_saved_model_cli_shows_every_signature(exported, capsys):
    saved_model_cli("show", "--dir", exported, "--all")
    shown = capsys.readouterr().out
    for signature, inputs in CONDITIONAL.items():
        described = shown.split(f"signature_def['{signature}']")[1].split("signature_def[")[0]
        assert {name for name in set().union(*CONDITIONAL.values()) if f"inputs['{name}']" in described} == inputs


def test_saved_model_cli_runs_signatures(exported, session, tmp_path):
    common = ["run", "--dir", exported, "--tag_set", "serve", "--outdir", tmp_path, "--overwrite"]
    expressions = "seed=[1,2,3];label=[0,1,2];truncation=[1.,.7,.5]"
    saved_model_cli(*common, "--signature_def", "sample", "--input_exprs", expressions)
    inputs = dict(seed=ints(1, 2, 3), label=labels(0, 1, 2), truncation=floats(1, 0.7, 0.5))
    pictures = np.load(tmp_path / "image_bytes.npy", allow_pickle=True)
    assert (pictures == session.run("sample", **inputs)["image_bytes"]).all()
    np.savez(tmp_path / "in.npz", latent=LATENT, label=LABEL)
    files = f"latent={tmp_path}/in.npz[latent];label={tmp_path}/in.npz[label]"
    saved_model_cli(*common, "--signature_def", "attention", "--inputs", files)
    expected = session.run("attention", latent=LATENT, label=LABEL)
    for name, value in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), value, atol=TOLERANCE)


def read_warm_up(folder):
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2", reason="needs the extra `serving`")
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    records = [bytes(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    return [apis.PredictionLog.FromString(record).predict_log.request for record in records]


def test_saved_model_answers_its_warm_up_requests(exported, session):
    requests = read_warm_up(exported)
    assert {request.model_spec.signature_name for request in requests} == set(session.signatures) & set(CONDITIONAL)
    for request in requests:
        assert request.model_spec.name == "sagan"
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        outputs = session.run(request.model_spec.signature_name, **inputs)  # any failure rejects the version
        assert all(len(value) == 1 for value in outputs.values())


@pytest.fixture
def empty_archives(monkeypatch):
    """Replaces what writes the graphs, which takes seconds."""

    class Archive:
        def add_endpoint(self, *arguments, **options):
            pass

        def write_out(self, path, verbose):
            (Path(path) / "saved_model.pb").touch()

    monkeypatch.setattr(keras.export, "ExportArchive", Archive)


def test_export_saved_model_omits_warm_up_without_serving_api(toy, empty_archives, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    folder = export_saved_model(toy, tmp_path)
    assert capsys.readouterr().out.count("\n") == 1 and os.listdir(folder) == ["saved_model.pb"]


def test_export_saved_model_publishes_complete_numbered_versions_only(toy, exported, tmp_path):
    assert exported.name == "1" and exported.parent.name == "sagan"
    (tmp_path / "1").mkdir()
    complete = {path.relative_to(exported) for path in exported.rglob("*")}
    seen, stop = [], threading.Event()

    def poll():
        while not seen or not stop.is_set():
            for path in tmp_path.glob("[2-9]*"):
                seen.append({file.relative_to(path) for file in path.rglob("*")})
            time.sleep(0.001)

    server = threading.Thread(target=poll)
    server.start()
    assert export_saved_model(toy, tmp_path) == tmp_path / "2"
    stop.set()
    server.join()
    assert seen and all(files == complete for files in seen) and sorted(os.listdir(tmp_path)) == ["1", "2"]


def test_export_saved_model_leaves_nothing_when_it_fails(toy, empty_archives, tmp_path, monkeypatch):
    def fail(folder, *arguments):
        assert os.listdir(folder) == ["saved_model.pb"]
        raise OSError("disk full")

    monkeypatch.setattr("sagan_tf.export.saved_model.write_warm_up", fail)
    with pytest.raises(OSError, match="disk full"):
        export_saved_model(toy, tmp_path)
    assert os.listdir(tmp_path) == []
    assert warm_up.write_warm_up is not fail


def test_export_saved_model_accepts_unconditional_gray_generator_of_rectangles(tmp_path):
    generator = make_toy_generator(None, image_size=(32, 48), image_channels=1, attention_sizes=())
    session = Session(export_saved_model(generator, tmp_path, warm_up=False))
    inputs = {name: set(session.signatures[name].inputs) for name in session.signatures if name in CONDITIONAL}
    assert inputs == {
        "serving_default": {"latent"},
        "sample": {"seed", "truncation"},
        "interpolate": {"start_seed", "end_seed", "fraction", "truncation"},
    }
    images = session.run("serving_default", latent=LATENT)["image"]
    np.testing.assert_allclose(images, images_of(generator, LATENT), atol=TOLERANCE)
    picture = session.run("sample", seed=ints(1), truncation=floats(1))["image_bytes"][0]
    with Image.open(io.BytesIO(picture)) as image:
        assert (image.mode, image.size) == ("L", (48, 32))
    ends = dict(start_seed=ints(1), end_seed=ints(2), fraction=floats(0), truncation=floats(1))
    assert session.run("interpolate", **ends)["image_bytes"][0] == picture


def test_export_saved_model_rejects_two_channels(tmp_path):
    with pytest.raises(ValueError, match="1 or 3 channels. Received: images of shape .32, 32, 2."):
        export_saved_model(make_toy_generator(image_channels=2), tmp_path)
    assert os.listdir(tmp_path) == []
