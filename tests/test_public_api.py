"""`import sagan_tf`: lazy, complete, in any order with Keras; trained generators by path."""

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image
from small_runs import KINDS, make_run
from toy_networks import toy_networks as toy_networks

import sagan_tf
from sagan_tf.commands.options import SampleOptions
from sagan_tf.commands.sample import sample_run
from sagan_tf.data import rules
from sagan_tf.errors import UserError
from sagan_tf.experiment import trained
from sagan_tf.generation.latents import draw_latents

pytestmark = pytest.mark.usefixtures("toy_networks")

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"Config", "SAGAN", "build_discriminator", "build_generator", "invert", "layers", "load_generator", "load_run",
         "losses", "pretrained", "read_weights", "train"}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_networks):
    return make_run(tmp_path_factory.mktemp("api") / "run")


@pytest.fixture(scope="module")
def twins():
    return sagan_tf.pretrained("twins")


def output_of(code, *arguments):
    """What a new process prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_package_lists_and_finds_its_names():
    assert NAMES <= set(dir(sagan_tf))
    assert all(getattr(sagan_tf, name) is not None for name in NAMES)
    with pytest.raises(AttributeError, match="module 'sagan_tf' has no attribute 'SAGGAN'"):
        sagan_tf.SAGGAN


def test_package_import_is_light():
    code = "import sys; before = set(sys.modules); import sagan_tf; print(*(set(sys.modules) - before))"
    third_party = {name.partition(".")[0] for name in output_of(code).split()} - set(sys.stdlib_module_names)
    assert third_party == {"sagan_tf"}


# Runs each argument in a process that has imported TensorFlow, most of the time of an import, but neither Keras, which
# TensorFlow imports where it finds it, nor this package.
FORKS = """
import os, sys
sys.modules["keras"] = None
import tensorflow
del sys.modules["keras"]
for code in sys.argv[1:]:
    if os.fork() == 0:
        exec(code)
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0, code
"""
ORDER = """
import {first}
import sagan_tf, sagan_tf.train, sagan_tf.experiment.train
from sagan_tf import train
from sagan_tf.train import main
sagan_tf.experiment.train.train = lambda config, callbacks, allow_data_change: (config, callbacks, allow_data_change)
print(train("config", [1], True), sagan_tf.train("config"), callable(main), train is sagan_tf.train)
"""
LOAD = """
import numpy
{imports}
sagan = keras.saving.get_registered_object("sagan_tf>SAGAN")
images = keras.models.load_model({path!r})([numpy.ones((2, 12), "float32"), numpy.array([0, 2], "int32")])
numpy.save({out!r}, images)
print(sagan.__name__)
"""
IMPORT = """
import sys, sagan_tf.experiment.train
extras = ["onnx", "onnxruntime", "tf2onnx", "aiohttp", "grpc", "orjson", "prometheus_client", "ai_edge_litert",
          "tensorflow_datasets", "matplotlib"]
print([name for name in extras if name in sys.modules])
"""
FIND = """
import {first}, keras
print(*(keras.saving.get_registered_object(f"sagan_tf>{{name}}").__name__ for name in ("SelfAttention", "SAGAN")))
"""


def test_imports_in_any_order_find_train_and_register_with_keras(run, tmp_path):
    """`train` is a module and a function; Keras loads our models after either import, and knows our classes when one of
    our modules imports it. Training on embedded data imports no extra."""
    path, outs = str(run.generator_path), [str(tmp_path / name) for name in ("ours_first.npy", "keras_first.npy")]
    cases = [
        *((ORDER.format(first=first), "('config', [1], True) ('config', (), False) True True")
          for first in ("sagan_tf.experiment.train", "sagan_tf.train")),
        *((LOAD.format(imports=imports, path=path, out=out), "SAGAN")
          for imports, out in zip(("import sagan_tf, keras", "import keras, sagan_tf"), outs)),
        *((FIND.format(first=first), "SelfAttention SAGAN")
          for first in ("sagan_tf.layers", "sagan_tf.accelerate", "sagan_tf.evaluation.distances",
                        "sagan_tf.training.losses")),
        (IMPORT, "[]"),
    ]  # fmt: skip
    codes, lines = zip(*cases)
    assert output_of(FORKS, *codes).splitlines() == list(lines)
    images = keras.models.load_model(path)([np.ones((2, 12), "float32"), np.array([0, 2], "int32")])
    for out in outs:
        np.testing.assert_allclose(np.load(out), images, atol=1e-6)


@pytest.mark.parametrize("convert", [str, Path])
def test_loaded_run_samples_as_the_sample_command(run, tmp_path, convert):
    loaded = sagan_tf.load_run(convert(run.path))
    list(sample_run(SampleOptions(run=str(run.path), out=tmp_path, seed=7, truncation=0.8, files=4)))
    files = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "samples").iterdir())]
    images = loaded.sample(seeds=[7, 8, 9, 10], labels=list(KINDS), truncation=0.8)
    assert images.dtype == np.uint8 and images.shape == (4, *loaded.image_shape)
    np.testing.assert_array_equal(images, files)
    assert loaded.class_names == KINDS and loaded.config == run.config() and loaded.step == 200


def test_loaded_generator_equals_the_loaded_run(run, tmp_path):
    from_run, from_file = sagan_tf.load_run(run.path), sagan_tf.load_generator(str(run.generator_path))
    np.testing.assert_array_equal(from_file.sample([3, 4], "ring"), from_run.sample([3, 4], [1, 1]))
    assert from_file.class_names == KINDS
    moved = tmp_path / "generator.keras"
    moved.write_bytes(run.generator_path.read_bytes())
    assert sagan_tf.load_generator(moved).class_names == ("0", "1", "2", "3")
    (tmp_path / "config.yaml").write_text("foo: 1\n")  # of another program
    assert sagan_tf.load_generator(moved).class_names == ("0", "1", "2", "3")
    assert sagan_tf.read_weights(moved).class_names is None


def test_loaded_run_without_classes_samples_without_labels(tmp_path):
    loaded = sagan_tf.load_run(make_run(tmp_path / "run", conditional=False).path)
    assert loaded.class_names is None and len(loaded.sample(5)) == 1
    with pytest.raises(ValueError, match="`labels` must be given if and only if there are classes"):
        loaded.sample(5, labels=1)


def test_loaded_run_gives_the_attention_of_its_samples(run):
    loaded = sagan_tf.load_run(run.path)
    maps = loaded.attention(seeds=[5, 6], labels=["disc", "cross"], truncation=0.5)
    latents = draw_latents(np.int64([5, 6]), np.float32([0.5, 0.5]), loaded.latent_dim)
    layers = {layer.name: layer for layer in loaded.model.layers if isinstance(layer, sagan_tf.layers.SelfAttention)}
    assert maps.keys() == layers.keys() and len(maps) == 2
    for name, layer in layers.items():
        features = keras.Model(loaded.model.inputs, layer.input)([latents, ops.array([0, 3])])
        _, scores = layer(features, return_attention_scores=True)
        np.testing.assert_allclose(maps[name].scores, scores, atol=1e-6)


def test_loaded_run_rejects_unknown_class_and_folder(run, tmp_path):
    with pytest.raises(ValueError, match="There is no class `rings`. Did you mean `ring`?"):
        sagan_tf.load_run(run.path).sample([1], "rings")
    with pytest.raises(UserError, match="not a run folder"):
        sagan_tf.load_run(tmp_path)


def test_train_needs_a_run_folder():
    with pytest.raises(UserError, match="`run` is null: name the folder of the run."):
        sagan_tf.train(sagan_tf.Config())


def test_public_losses_and_builders_are_those_of_the_packages():
    images = ops.zeros((1, 32, 32, 3))
    discriminator = sagan_tf.build_discriminator(image_size=32, channels=4, num_classes=None, attention_sizes=())
    logit = discriminator(images)
    assert float(sagan_tf.losses.hinge_generator_loss(logit)) == pytest.approx(-float(logit[0, 0]))


@pytest.mark.parametrize("arguments, message", [
    (([0.5], 1), "`seeds`"), (([[0], [1]], 1), "`seeds`"), (([0], 1.5), "`labels`"), (([0, 1, 2], [0, 1]), "`labels`"),
    (([0], 1, float("nan")), "`truncation`"), (([0], 1, 0), "`truncation`"), (([0, 1, 2], 1, [0.5, 1]), "`truncation`"),
])  # fmt: skip
def test_sample_refuses_arguments_out_of_range(twins, arguments, message):
    with pytest.raises(ValueError, match=message):
        twins.sample(*arguments)


def test_map_of_refuses_queries_outside_of_the_feature_map(twins):
    maps = twins.attention([7], "ring")["attention_16"]
    for query in ((0, -1), (8, 16), (16, 0)):
        with pytest.raises(ValueError, match="16 x 16"):
            maps.map_of(0, query)


def test_attention_is_traced_once(twins):
    with mock.patch.object(trained, "AttentionProbe", wraps=trained.AttentionProbe) as made:
        maps = [twins.attention(seed, "ring")["attention_16"].scores for seed in (7, 8, 7)]
    assert made.call_count <= 1 and np.array_equal(maps[0], maps[2]) and not np.array_equal(maps[0], maps[1])


def test_loaders_name_each_other(run):
    with pytest.raises(UserError, match="`load_run` loads a run"):
        sagan_tf.load_generator(run.path)
    with pytest.raises(UserError, match="`load_generator` loads it"):
        sagan_tf.load_run(run.generator_path)
    with pytest.raises(TypeError, match="must be a Config"):
        sagan_tf.train("cifar10")


def test_pretrained_makes_the_samples_of_its_card(twins):
    generator = twins
    assert (generator.class_names, generator.step) == (("disc", "ring", "square", "cross"), 5000)
    score = rules.score("twins", generator.sample(range(200), np.arange(200) % 4), np.arange(200) % 4)
    # The card, of 10,000 samples: .972 and .996; 0.17 and 0.25 by chance.
    assert score["hue_agreement"] == pytest.approx(0.972, abs=0.04)
    assert score["kind_agreement"] == pytest.approx(0.996, abs=0.03)


def test_pretrained_cifar10_makes_ten_classes_of_photographs():
    generator = sagan_tf.pretrained("cifar10")
    assert (len(generator.class_names), generator.class_names[7], generator.step) == (10, "horse", 18_000)
    # Ships are on blue water, frogs among green and brown.
    ships, frogs = (generator.sample(range(50), name).astype(float).mean(axis=(0, 1, 2)) for name in ("ship", "frog"))
    assert ships[2] > ships[0] and frogs[2] < frogs[0]


def test_sample_takes_no_seeds_and_refuses_those_that_would_wrap():
    generator = sagan_tf.pretrained("twins")
    assert generator.sample([], []).shape == (0, 32, 32, 3)
    with pytest.raises(ValueError, match="`seeds` must be an int or"):
        generator.sample([2**64 - 1], [0])


def test_pretrained_names_its_weights_when_there_are_none_of_that_name():
    with pytest.raises(UserError, match=r"no weights `twin`. Did you mean `twins`?"):
        sagan_tf.pretrained("twin")


def test_weights_of_the_package_are_small():
    sizes = [file.stat().st_size for file in (ROOT / "sagan_tf" / "weights").rglob("*.keras")]
    assert sum(sizes) < 6 * 2**20 and max(sizes) < 4 * 2**20
