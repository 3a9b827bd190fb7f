"""The `.keras` file and the ONNX file, each in a runtime without this package."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from export.generators import NUM_CLASSES, images_of, make_generator, make_inputs

from sagan_tf.errors import UserError
from sagan_tf.export import export_keras, export_onnx, fold_generator
from sagan_tf.networks import build_discriminator

TOLERANCE = 3e-5

LOAD_WITH_KERAS = """
import json, sys
sys.modules["sagan_tf"] = None  # importing it would raise
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
inputs = [np.array(x, t) for x, t in zip(json.loads(sys.argv[2]), ("float32", "int32"))]
image = model.predict(inputs, verbose=0)
maps = keras.Model(model.inputs, model.get_layer("attention_16_scores").output).predict(inputs, verbose=0)
print(json.dumps([image.ravel().tolist(), maps.shape]))
"""


def test_export_keras_file_loads_without_sagan_tf(tmp_path):
    generator, inputs = make_generator(), make_inputs(3)
    path = export_keras(generator, tmp_path / "deep" / "generator.keras")
    command = [sys.executable, "-c", LOAD_WITH_KERAS, path, json.dumps([x.tolist() for x in inputs])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    image, shape = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(np.reshape(image, (3, 32, 32, 3)), images_of(generator, inputs), atol=TOLERANCE)
    assert shape == [3, 256, 64]


@pytest.mark.parametrize("label", [-1, -NUM_CLASSES, NUM_CLASSES])
def test_keras_models_reject_a_label_out_of_range(tmp_path, label):
    generator = make_generator()
    exported = keras.models.load_model(export_keras(generator, tmp_path / "generator.keras"))
    discriminator = build_discriminator(32, 4, NUM_CLASSES, ())
    latent, labels = make_inputs(2)[0], np.array([0, label], np.int32)
    for model, x in ((exported, latent), (generator, latent), (discriminator, np.zeros((2, 32, 32, 3), np.float32))):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"indices\[1\] = \d+ is not in \[0, 5\)"):
            model([x, labels])


@pytest.mark.parametrize("num_classes", [NUM_CLASSES, None])
def test_export_onnx_matches_folded_generator(tmp_path, num_classes):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
    pytest.importorskip("tf2onnx", reason="needs the extra `onnx`")
    generator = make_generator(num_classes)
    path = export_onnx(generator, tmp_path / "generator.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {x.name for x in session.get_outputs()} == {"image", "attention_8", "attention_16"}
    for batch in (1, 5):
        inputs = make_inputs(batch, num_classes)
        latent, *label = inputs if isinstance(inputs, list) else [inputs]
        feed = {"latent": latent} | ({"label": label[0]} if label else {})
        outputs = dict(zip(["image", "attention_16"], session.run(["image", "attention_16"], feed)))
        expected = fold_generator(generator).generate(latent, *label)
        for name, value in outputs.items():
            np.testing.assert_allclose(value, expected[name], atol=TOLERANCE)
    if num_classes is not None:
        for wrong in (-1, num_classes):
            with pytest.raises(Exception, match="out of data bounds"):  # a private class of onnxruntime
                session.run(["image"], {"latent": latent[:1], "label": np.array([wrong], np.int32)})


def test_export_onnx_rejects_missing_tf2onnx(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UserError, match=r"pip install '\.\[onnx\]'"):
        export_onnx(make_generator(), tmp_path / "generator.onnx")
