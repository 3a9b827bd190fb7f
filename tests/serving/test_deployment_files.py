"""The files of export/serving, parsed with TensorFlow Serving's messages where these are published."""

import re
from pathlib import Path

import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from sagan_tf.serving import rest_server
from sagan_tf.serving.limits import Limits

KIT = Path(__file__).resolve().parents[2] / "export" / "serving"
FLAGS = ("port", "rest_api_port", "model_config_file", "monitoring_config_file", "enable_batching",
         "batching_parameters_file", "file_system_poll_wait_seconds")  # fmt: skip


def read(name):
    """The text without comments."""
    return re.sub(r"^\s*#.*\n", "", (KIT / name).read_text(), flags=re.MULTILINE)


def composed():
    return yaml.safe_load((KIT / "compose.yaml").read_text())["services"]["tensorflow_serving"]


def test_model_config_names_the_mounted_folder():
    config = text_format.Parse(read("models.config"), model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.model_platform) == ("sagan", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 1
    targets = [volume.rsplit(":", 2)[1] for volume in composed()["volumes"]]
    assert model.base_path in targets


def test_monitoring_config_has_the_path_of_the_local_server():
    # The message is not among the published ones: monitoring_config.proto.
    path = "/monitoring/prometheus/metrics"
    assert read("monitoring.config").split() == ["prometheus_config", "{", "enable:", "true", "path:", f'"{path}"', "}"]
    assert path in (Path(rest_server.__file__)).read_text()


def test_batching_parameters_are_those_of_the_local_server():
    # The message is not among the published ones: session_bundle_config.proto.
    text = read("batching_parameters.txt")
    wrapped = dict(re.findall(r"(\w+) \{ value: (\d+) \}", text))
    sizes = [int(size) for size in re.findall(r"allowed_batch_sizes: (\d+)", text)]
    assert set(wrapped) == {"max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"}
    assert not re.sub(r"\w+( \{ value: \d+ \}|: \d+)|\s", "", text)  # it contains nothing else
    limits = Limits()
    assert int(wrapped["max_batch_size"]) == limits.max_batch_size == sizes[-1]  # otherwise the server does not start
    assert int(wrapped["batch_timeout_micros"]) == round(1e6 * limits.batch_timeout)
    assert int(wrapped["max_enqueued_batches"]) == limits.max_enqueued_batches
    assert int(wrapped["num_batch_threads"]) == limits.parallel_batches
    assert sizes == sorted(set(sizes))


def test_compose_file_uses_existing_files():
    service = composed()
    flags = dict(flag.removeprefix("--").split("=") for flag in service["command"])
    assert set(flags) == set(FLAGS)
    for value in flags.values():
        if value.startswith("/config/"):
            assert (KIT / value.removeprefix("/config/")).is_file()
    ports = {port.split(":")[-1] for port in service["ports"]}
    assert ports == {flags["port"], flags["rest_api_port"]}
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", service["image"])
