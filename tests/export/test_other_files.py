"""The `.keras` file and the ONNX file, each in a runtime without this package."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from export.generators import NUM_CLASSES, make_generator, make_inputs, make_toy_generator

from sagan_tf.errors import UserError
from sagan_tf.export import export_keras, export_onnx, fold_generator
from sagan_tf.networks import build_discriminator

TOLERANCE = 3e-5


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """Keras models with labels, and an input for each."""
    generator = make_generator()
    exported = keras.models.load_model(export_keras(generator, tmp_path_factory.mktemp("keras") / "generator.keras"))
    discriminator = build_discriminator(32, 4, NUM_CLASSES, ())
    latent = make_inputs(2)[0]
    return (exported, latent), (generator, latent), (discriminator, np.zeros((2, 32, 32, 3), np.float32))


@pytest.mark.parametrize("label", [-1, -NUM_CLASSES, NUM_CLASSES])
def test_keras_models_reject_a_label_out_of_range(labeled, label):
    labels = np.array([0, label], np.int32)
    for model, x in labeled:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"indices\[1\] = \d+ is not in \[0, 5\)"):
            model([x, labels])


@pytest.mark.parametrize("num_classes", [NUM_CLASSES, None])
def test_export_onnx_matches_folded_generator(tmp_path, num_classes):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `onnx`")
    pytest.importorskip("tf2onnx", reason="needs the extra `onnx`")
    generator = make_generator(num_classes) if num_classes else make_toy_generator(None, image_size=(32, 48))
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
        export_onnx(make_toy_generator(), tmp_path / "generator.onnx")
