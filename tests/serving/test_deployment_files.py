"""The Dockerfile's shell lines, and the files of export/serving, with TensorFlow Serving's messages where published."""

import configparser
import os
import re
import stat
import subprocess
from pathlib import Path

import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from sagan_tf.serving import rest_server
from sagan_tf.serving.limits import Limits

ROOT = Path(__file__).resolve().parents[2]
KIT = ROOT / "export" / "serving"
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


def test_dockerfile_installs_known_extras_and_makes_writable_folders(tmp_path):
    text = re.sub(r"/(source|work|home/sagan)\b", rf"{tmp_path}\g<0>", (ROOT / "Dockerfile").read_text())
    (tmp_path / "source").mkdir()
    (tmp_path / "pip").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "pip").chmod(0o755)
    defaults = dict(re.findall(r"(\S+)=(\S+)", "\n".join(re.findall(r"^(?:ARG|ENV) .*", text, re.MULTILINE))))
    printed = [
        subprocess.run(["sh", "-euc", line], env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **defaults},
                       check=True, capture_output=True, text=True).stdout
        for line in re.findall(r"^RUN (.*)", text, re.MULTILINE)
    ]  # fmt: skip
    extras = re.search(r"/source\[(.*)\]$", printed[0].strip()).group(1).split(",")
    extras += re.search(r"--build-arg EXTRAS=(\S+)", text).group(1).split(",")
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert set(extras) <= set(setup["options.extras_require"])
    assert not (tmp_path / "source").exists()
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("work", "home/sagan")] == [0o1777] * 2
