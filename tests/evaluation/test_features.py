"""Feature networks: a stand-in for TF-GAN's Inception, Keras files, SavedModels, and files that are rejected."""

import functools
import gzip
import http.server
import re
import tarfile
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from sagan_tf.errors import UserError
from sagan_tf.evaluation import inception
from sagan_tf.evaluation.features import open_features
from sagan_tf.evaluation.inception import load_inception, to_inception_input
from sagan_tf.files.hashing import sha256

rng = np.random.default_rng(0)
PICTURES = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


class StandIn(tf.Module):
    """A SavedModel with the signatures of TF-GAN's and random weights."""

    def __init__(self, logits=1008):
        super().__init__()
        self.kernel = tf.Variable(np.random.default_rng(1).normal(size=(75, 2048)).astype(np.float32))
        self.logits = logits

    @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3))])
    def __call__(self, images):
        coarse = tf.reshape(tf.image.resize(images, [5, 5], antialias=True), [-1, 75])
        features = tf.nn.relu(coarse @ self.kernel)
        return {"pool_3": features, "logits": features[:, : self.logits]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "saved"
    module = StandIn()
    tf.saved_model.save(module, str(path), signatures=module.__call__)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAGAN_TF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def resized_by_hand(image, size=299):
    """TensorFlow 1's rule in float64: output i reads input i * S / size, between floor and the next pixel."""
    place = np.arange(size) * (len(image) / size)
    low = np.floor(place).astype(int)
    high, share = np.minimum(low + 1, len(image) - 1), place - low
    rows = image[low] * (1 - share)[:, None, None] + image[high] * share[:, None, None]
    return rows[:, low] * (1 - share)[None, :, None] + rows[:, high] * share[None, :, None]


@pytest.mark.parametrize("size", [32, 128, 299])
def test_to_inception_input_matches_the_graph_of_2015(size):
    images = rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    expected = (np.stack([resized_by_hand(image.astype(np.float64)) for image in images]) - 128) / 128
    np.testing.assert_allclose(to_inception_input(images), expected, atol=5e-5)
    # The rule of Keras and TensorFlow 2 differs by far more than rounding.
    modern = (tf.image.resize(images, [299, 299]).numpy() - 128) / 128
    assert size == 299 or np.abs(modern - expected).max() > 0.05
    gray = to_inception_input(images[..., :1])
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])


def test_load_inception_reads_folder_and_archive(folder, tmp_path):
    with tarfile.open(tmp_path / "inception.tar.gz", "w:gz") as file:
        for path in folder.iterdir():
            file.add(path, path.name)
    hashes = []
    for path in (folder, tmp_path / "inception.tar.gz"):
        network = open_features(inception=str(path))
        features, probabilities = network(PICTURES)
        expected = StandIn()(to_inception_input(PICTURES))
        np.testing.assert_allclose(features, expected["pool_3"], rtol=1e-5)
        np.testing.assert_allclose(probabilities, tf.nn.softmax(expected["logits"]), rtol=1e-4, atol=1e-7)
        assert network.is_inception and (network.dimensions, network.num_classes) == (2048, 1008)
        hashes.append(network.sha256)
    assert hashes[0] == hashes[1] == sha256(folder)
    with pytest.raises(UserError, match="--inception_sha256 is abc"):
        load_inception(folder, "abc")


@pytest.mark.parametrize("position", [0.5, -8])
def test_load_inception_rejects_a_damaged_archive(folder, tmp_path, cache, position):
    """The end of an archive comes before the checksum of its compression, which was not compared."""
    path = tmp_path / "inception.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=0) as file:
        for each in folder.iterdir():
            file.add(each, each.name)
    content = bytearray(path.read_bytes())
    content[int(position * len(content)) if position > 0 else position] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a complete archive"):
        load_inception(path)
    assert not list(cache.glob("inception-*"))


def test_load_inception_rejects_an_archive_that_unpacks_to_too_much(tmp_path, cache):
    member = tarfile.TarInfo("saved_model.pb")
    member.size = 3 << 30
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(member.tobuf()))
    with pytest.raises(UserError, match="claims to unpack to 3.0 GiB"):
        load_inception(tmp_path / "bomb.tar.gz")
    assert not list(cache.glob("inception-*"))


@pytest.fixture
def server(folder, tmp_path, monkeypatch):
    """A server that returns the archive and counts requests."""
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "inception", "w:gz") as file:
        for path in folder.iterdir():
            file.add(path, path.name)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=served)) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        monkeypatch.setattr(inception, "URL", f"http://127.0.0.1:{running.server_port}/inception?compressed")
        yield asked
        running.shutdown()
        thread.join()


def test_load_inception_downloads_once_and_detects_changes(server, cache, folder):
    first = open_features()
    assert open_features().sha256 == first.sha256 == sha256(folder) and len(server) == 1
    assert sorted(path.name for path in cache.iterdir()) == ["inception", "inception.json", "inception.lock"]
    for record in ("", "[]"):  # a damaged one: downloaded again
        (cache / "inception.json").write_text(record)
        assert open_features().sha256 == first.sha256
    assert len(server) == 3
    with open(cache / "inception" / "saved_model.pb", "ab") as file:
        file.write(b" ")
    with pytest.raises(UserError, match="has changed since the download"):
        open_features()


def test_load_inception_names_alternative_when_download_fails(monkeypatch, cache):
    monkeypatch.setattr(inception, "URL", "http://127.0.0.1:9/nothing")
    with pytest.raises(UserError, match=r"cannot be downloaded .*--inception PATH.*--features") as caught:
        open_features()
    assert "\n" not in str(caught.value) and [path.name for path in cache.iterdir()] == ["inception.lock"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(6, 3, name="maps"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
            keras.layers.Dense(5, name="logits"),
        ]
    )
    path = tmp_path_factory.mktemp("keras") / "my.keras"
    model.save(path)
    return model, path


@pytest.mark.parametrize("part, layer", [("", "pool"), (":pool", "pool"), (":maps", "pool")])
def test_open_features_accepts_a_keras_layer(classifier, part, layer):
    model, path = classifier
    network = open_features(f"{path}{part}", pixel_range="0,1")
    features, probabilities = network(PICTURES)
    inputs = PICTURES.astype(np.float32) / 255
    # A feature map is averaged over its positions, as the next layer does here.
    expected = keras.Model(model.inputs[0], model.get_layer(layer).output)(inputs)
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(probabilities, tf.nn.softmax(model(inputs)), rtol=1e-5)
    assert not network.is_inception and network.sha256 == sha256(path) and (network.dimensions, 5) == (6, 5)
    assert network.num_classes == 5 and network.name.startswith("my.keras:")


@pytest.mark.parametrize("is_saved_model", [False, True])
def test_network_of_whole_numbers_gets_those_of_its_range(classifier, tmp_path, is_saved_model):
    """Floats in -1..1 were cut to 0, so that all images were equal and every distance was 0."""
    float_model, float_path = classifier
    inputs = keras.Input((32, 32, 3), dtype="uint8")
    pooled = keras.Model(float_model.inputs[0], [float_model.get_layer("pool").output, float_model.outputs[0]])
    features, logits = pooled(keras.layers.Rescaling(1 / 255)(inputs))
    if is_saved_model:
        path = tmp_path / "saved"
        keras.Model(inputs, {"features": features, "logits": logits}).export(path, verbose=False)
        name = f"{path}:features"
    else:
        path = name = str(tmp_path / "whole.keras")
        keras.Model(inputs, keras.layers.Dense(2)(features)).save(path)
    for pixel_range in ("-1,1", "0,1"):
        with pytest.raises(UserError, match=r"takes whole numbers \(uint8\). Add --pixel_range 0,255."):
            open_features(name, pixel_range=pixel_range)
    expected = open_features(str(float_path), pixel_range="0,1")(PICTURES)[0]
    np.testing.assert_allclose(open_features(name, pixel_range="0,255")(PICTURES)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_rounded_class_probabilities_are_not_taken_for_logits(tmp_path, policy):
    """Softmax outputs in bfloat16 miss a sum of 1 by 0.002, and got a second softmax."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(name="pool")])
    model.add(keras.layers.Dense(10, "softmax", kernel_initializer=keras.initializers.Zeros()))
    model.layers[-1].bias.assign(np.random.default_rng(13).normal(size=10))  # rounded, they miss 1 by 0.002
    model.save(tmp_path / "float32.keras")
    rounded = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(name="pool")])
    rounded.add(keras.layers.Dense(10, "softmax", dtype=policy))
    rounded.layers[-1].set_weights(model.layers[-1].get_weights())
    rounded.save(tmp_path / "net.keras")
    probabilities = open_features(str(tmp_path / "net.keras"))(PICTURES)[1]
    wanted = open_features(str(tmp_path / "float32.keras"))(PICTURES)[1]
    np.testing.assert_allclose(np.sum(probabilities, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(probabilities, wanted, atol=2e-3)


def test_open_features_accepts_a_layer_with_the_name_that_keras_gives(tmp_path):
    """In a new process, a layer of ours would get the same name."""
    maps = keras.layers.Conv2D(4, 5, name="maps")
    keras.Sequential([
        keras.Input((32, 32, 3)), maps, keras.layers.GlobalAveragePooling2D(name="global_average_pooling2d"),
    ]).save(tmp_path / "net.keras")  # fmt: skip
    keras.utils.clear_session()
    assert open_features(f"{tmp_path / 'net.keras'}:maps")(PICTURES)[0].shape == (len(PICTURES), 4)


def test_open_features_adapts_images_to_the_network(classifier):
    network = open_features(str(classifier[1]))
    large = PICTURES.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(network(large)[0], network(PICTURES)[0], atol=0.02)
    gray = np.repeat(PICTURES[..., :1], 3, axis=-1)
    np.testing.assert_allclose(network(gray[..., :1])[0], network(gray)[0], rtol=1e-6)


def test_open_features_accepts_a_saved_model_output(tmp_path):
    class Net(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 16, 24, 3))])
        def serve(self, pixels):
            return {"maps": pixels[:, ::2, ::2], "probabilities": tf.nn.softmax(pixels[:, 0, :2, 0])}

    module = Net()
    tf.saved_model.save(module, str(tmp_path / "net"), signatures=module.serve)
    network = open_features(f"{tmp_path / 'net'}:maps", pixel_range="0,255")
    features, probabilities = network(PICTURES[:, :16, :24])
    np.testing.assert_allclose(features, PICTURES[:, :16:2, :24:2].mean(axis=(1, 2)), rtol=1e-5)
    assert network.num_classes == 2 and probabilities.shape == (3, 2)
    with pytest.raises(UserError, match=r"several outputs; choose one as .*maps"):
        open_features(str(tmp_path / "net"))
    with pytest.raises(UserError, match="no output `map`"):
        open_features(f"{tmp_path / 'net'}:map")


def test_open_features_rejects_other_files(classifier, tmp_path, folder):
    (tmp_path / "bad.keras").write_bytes(b"PK\x03\x04")
    (tmp_path / "bad.tar.gz").write_bytes(b"no archive")
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match="not yet been built"):
        keras.Sequential([keras.layers.Dense(2, name="dense")]).save(tmp_path / "unbuilt.keras")
    for call, message in [
        (lambda: open_features("nothing.keras"), "no file or folder"),
        (lambda: open_features(f"{classifier[1]}:pol"), "no layer `pol`; it has maps, pool, logits"),
        (lambda: open_features(str(tmp_path / "bad.keras")), "not a readable Keras model"),
        (lambda: open_features(str(tmp_path / "unbuilt.keras")), "must take one batch of images"),
        (lambda: open_features(f"{tmp_path / 'unbuilt.keras'}:dense"), "must take one batch of images"),
        (lambda: open_features(str(tmp_path / "empty")), "not a SavedModel"),
        (lambda: open_features(inception=str(tmp_path / "none")), "no file or folder"),
        (lambda: open_features(inception=str(tmp_path / "empty")), "not TF-GAN's Inception"),
        (lambda: open_features(inception=str(tmp_path / "bad.tar.gz")), "not a complete archive"),
    ]:
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shapes", [[(None, 8)], [(None, 8, 8, 3), (None,)], []])
def test_open_features_rejects_a_saved_model_of_other_inputs(tmp_path, shapes):
    specs = [tf.TensorSpec(shape, tf.float32, name=f"x{i}") for i, shape in enumerate(shapes)]
    module = tf.Module()
    module.call = tf.function(lambda *x: {"y": tf.add_n([tf.reduce_sum(v) for v in x]) if x else tf.zeros([2])}, specs)
    tf.saved_model.save(module, str(tmp_path / "net"), {"serving_default": module.call})
    with pytest.raises(UserError, match=r"net must take images \(B, H, W, C\) and nothing else; it takes"):
        open_features(str(tmp_path / "net"))


def test_load_inception_rejects_another_saved_model(tmp_path):
    module = StandIn(logits=1000)
    tf.saved_model.save(module, str(tmp_path / "net"))
    with pytest.raises(UserError, match="other shapes"):
        load_inception(tmp_path / "net")


class Trap(tf.Module):
    """A feature network that writes a file."""

    def __init__(self, path):
        super().__init__()
        self.path = str(path)

    @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3))])
    def __call__(self, images):
        tf.print("ran", output_stream=f"file://{self.path}")
        return {"pool_3": tf.zeros([tf.shape(images)[0], 2048]), "logits": tf.zeros([tf.shape(images)[0], 1008])}


def test_saved_models_that_write_files_are_rejected_before_they_run(tmp_path):
    module = Trap(tmp_path / "ran")
    tf.saved_model.save(module, str(tmp_path / "net"), signatures=module.__call__)
    with pytest.raises(UserError, match="its graph has PrintV2"):
        open_features(f"{tmp_path / 'net'}:pool_3")
    with pytest.raises(UserError, match="its graph has PrintV2"):
        load_inception(tmp_path / "net")
    assert not (tmp_path / "ran").exists()
    load_inception(tmp_path / "net", sha256(tmp_path / "net"))  # whoever names the hash trusts the file
    assert (tmp_path / "ran").exists()


def test_open_features_accepts_usual_classifiers_as_saved_models(tmp_path):
    inputs = keras.Input((32, 32, 3))
    maps = keras.layers.BatchNormalization()(keras.layers.SeparableConv2D(4, 3, activation="silu")(inputs))
    maps = keras.layers.Activation("gelu")(keras.layers.LayerNormalization()(keras.layers.AveragePooling2D(2)(maps)))
    maps = keras.layers.Activation("relu6")(keras.layers.ZeroPadding2D()(maps))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.MaxPooling2D()(maps))
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(features))
    model.export(tmp_path / "net", verbose=False)
    expected = model(PICTURES / np.float32(127.5) - 1.0)
    np.testing.assert_allclose(open_features(str(tmp_path / "net"))(PICTURES)[0], expected, rtol=1e-4, atol=1e-5)
