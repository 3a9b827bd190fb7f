"""TFLite files in LiteRT, an interpreter without TensorFlow."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from export.generators import NUM_CLASSES, images_of, make_generator, make_inputs, make_toy_generator

from sagan_tf.export import export_tflite
from sagan_tf.export.tflite import VARIANTS

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra `tflite`")
pytest.importorskip("litert_quantizer", reason="needs the extra `tflite`")

# PSNR in dB on [-1, 1] that each variant must reach, and not exceed: a better one would not be that variant.
# 8 bits of weights give errors of some hundredths after a dozen layers; 11 bits of float16 of some thousandths.
PSNR = {"float32": (100, 200), "float16": (55, 100), "dynamic_int8": (30, 70), "int8": (25, 60)}
CUSTOM = 32  # BuiltinOperator.CUSTOM, which Flex operations are


@pytest.fixture(scope="module")
def export(shared_folder):
    """A function that returns a generator and its files by variant, exported once."""

    def exported(name, num_classes, image_size=32, **options):
        generator = make_generator(num_classes, image_size=image_size)

        def write(folder):
            generator.save_weights(folder / "generator.weights.h5")
            files = export_tflite(generator, folder, **options)
            (folder / "files.json").write_text(json.dumps({variant: path.name for variant, path in files.items()}))

        folder = shared_folder(f"tflite_{name}", write)
        generator.load_weights(folder / "generator.weights.h5")
        names = json.loads((folder / "files.json").read_text())
        return generator, {variant: folder / name for variant, name in names.items()}

    return exported


@pytest.fixture(scope="module", params=["conditional", "unconditional"])
def exported(request, export):
    num_classes, image_size = {"conditional": (NUM_CLASSES, 32), "unconditional": (None, (32, 48))}[request.param]
    return num_classes, *export(request.param, num_classes, image_size)


@pytest.fixture(scope="module")
def conditional(export):
    return export("of_one", NUM_CLASSES, variants=["float32", "dynamic_int8"], batch=1)


def run(path, inputs, signature="serving_default"):
    """Runs a file on inputs as in `make_inputs`."""
    runner = litert.Interpreter(str(path)).get_signature_runner(signature)
    latent, *label = inputs if isinstance(inputs, list) else [inputs]
    return runner(latent=latent, **({"label": label[0]} if label else {}))


def psnr(images, expected):
    return 10 * np.log10(4 / np.mean((np.float64(images) - expected) ** 2))


def test_export_tflite_variants_have_expected_error(exported):
    num_classes, generator, files = exported
    assert tuple(files) == VARIANTS
    inputs = make_inputs(24, num_classes)
    expected = images_of(generator, inputs)
    reached = {variant: psnr(run(path, inputs)["image"], expected) for variant, path in files.items()}
    assert all(low < reached[variant] < high for variant, (low, high) in PSNR.items()), reached


def test_export_tflite_files_compute_no_shapes(exported):
    """With shapes that LiteRT computes, float16 with XNNPACK gave wrong images from the second call on, by chance."""
    for variant, path in exported[2].items():
        operations = {operation["op_name"] for operation in litert.Interpreter(str(path))._get_ops_details()}
        assert "RESHAPE" in operations and not operations & {"SHAPE", "PACK"}, variant


def test_export_tflite_attention_matches_float32(exported):
    num_classes, generator, files = exported
    inputs = make_inputs(4, num_classes)
    expected = run(files["float32"], inputs, "attention")
    wide = generator.output.shape[2] == 48
    assert {name: value.shape[1:] for name, value in expected.items()} == {
        "image": (32, 48 if wide else 32, 3),
        "attention_8": (96, 24) if wide else (64, 16),
        "attention_16": (384, 96) if wide else (256, 64),
    }
    for variant, path in files.items():
        outputs, image = run(path, inputs, "attention"), run(path, inputs)["image"]
        np.testing.assert_allclose(outputs["image"], image, atol=1e-6, err_msg=variant)
        for name in ("attention_8", "attention_16"):
            np.testing.assert_allclose(outputs[name].sum(-1), 1, atol=1e-3)
            assert abs(outputs[name] - expected[name]).max() < 0.5


def test_export_tflite_quantized_files_are_smaller(exported):
    sizes = {variant: path.stat().st_size for variant, path in exported[2].items()}
    assert sizes["dynamic_int8"] < sizes["float16"] < sizes["float32"]
    # TensorFlow 2.20 writes 1 KB more of scales, which matters in a file of 96 KB.
    assert sizes["int8"] < sizes["float16"] + 2000


def test_export_tflite_uses_built_in_operations_only(exported):
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="LiteRT without its schema")
    for path in exported[2].values():
        model = schema.Model.GetRootAsModel(path.read_bytes(), 0)
        codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
        assert codes and all(code.CustomCode() is None and code.BuiltinCode() != CUSTOM for code in codes)


# A process that has imported TensorFlow may run Flex operations, which phones do not have.
ALONE = """
import json, sys, numpy as np
from ai_edge_litert.interpreter import Interpreter
latent, label = (np.array(x, t) for x, t in zip(json.loads(sys.argv[2]), ("float32", "int32")))
image = Interpreter(sys.argv[1]).get_signature_runner("serving_default")(latent=latent, label=label)["image"]
assert "tensorflow" not in sys.modules and "sagan_tf" not in sys.modules
print(json.dumps(image.ravel().tolist()))
"""


def test_export_tflite_file_runs_without_tensorflow(conditional):
    generator, files = conditional
    latent, label = make_inputs(1)
    command = [sys.executable, "-c", ALONE, files["float32"], json.dumps([latent.tolist(), label.tolist()])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    image = np.reshape(json.loads(done.stdout.splitlines()[-1]), (1, 32, 32, 3))
    np.testing.assert_allclose(image, images_of(generator, [latent, label]), atol=3e-5)


def test_export_tflite_writes_fixed_batch_size(conditional):
    generator, files = conditional
    for variant, path in files.items():
        details = {detail["name"]: detail for detail in litert.Interpreter(str(path)).get_input_details()}
        shapes = sorted(detail["shape_signature"].tolist() for detail in details.values())
        assert shapes == [[1], [1, 12]], variant
    inputs = make_inputs(1)
    assert psnr(run(files["dynamic_int8"], inputs)["image"], images_of(generator, inputs)) > 30


@pytest.mark.parametrize("label", [NUM_CLASSES, -1, 2**31 - 1])
def test_export_tflite_file_rejects_label_out_of_range(conditional, label):
    for path in conditional[1].values():
        with pytest.raises(RuntimeError, match="out of bounds"):
            run(path, [np.zeros((1, 12), np.float32), np.array([label], np.int32)])


def test_export_tflite_omits_int8_without_quantizer(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    generator = make_toy_generator(None, attention_sizes=())
    files = export_tflite(generator, tmp_path, variants=["float32", "int8"])
    assert list(files) == ["float32"] and os.listdir(tmp_path) == ["generator_float32.tflite"]
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize("variants", [["float64"], ["float32", "int4"], []])
def test_export_tflite_rejects_unknown_variants(tmp_path, variants):
    with pytest.raises(ValueError, match="`variants` must be among.*Received"):
        export_tflite(make_toy_generator(), tmp_path, variants=variants)
    assert os.listdir(tmp_path) == []
