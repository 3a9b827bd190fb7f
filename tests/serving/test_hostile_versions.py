"""Hostile or damaged versions: the service reports one line and keeps what it serves."""

import asyncio
import json
import os
import shutil
import struct

import numpy as np
import pytest
import tensorflow as tf
from damage import damage, peak_growth, tries
from hypothesis import given
from hypothesis import strategies as st
from serving.models import copy_version, make_inputs
from serving.servers import QUICK, running, wait_until
from serving.test_service import write_warm_up
from tensorflow_serving.apis import prediction_log_pb2

from sagan_tf.serving.errors import RequestError
from sagan_tf.serving.service import Service

FILES = (
    "saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001",
    "assets.extra/tf_serving_warmup_requests",
)  # fmt: skip


def served_after(folder, appear):
    """Returns the version served after `appear()` beside version 1, and the lines reported since."""
    lines = []

    async def update():
        service = Service(str(folder), QUICK, lines.append)
        await service.update()
        assert [version.number for version in service.models.values()] == [1]
        lines.clear()
        appear()
        await service.update()
        (version,) = service.models.values()
        try:
            version.signature("sample").run(
                {"seed": np.int64([1]), "label": np.int32([0]), "truncation": np.float32([1])}
            )
        except (RequestError, tf.errors.OpError):
            pass  # a loaded graph may still fail; the client receives the error
        await service.close()
        return version.number

    return asyncio.run(update()), lines


@tries(15)
@given(file=st.sampled_from(FILES), change=damage())
def test_service_reports_damaged_version_in_one_line(version_1, tmp_path_factory, file, change):
    folder = tmp_path_factory.mktemp("models") / "sagan"
    folder.mkdir()
    copy_version(version_1, folder, 1)

    def appear():
        shutil.copytree(folder / "1", folder / ".new")
        write_warm_up(folder / ".new", label=0)
        path = folder / ".new" / file
        path.write_bytes(change(path.read_bytes()))
        os.rename(folder / ".new", folder / "2")

    number, (line,) = served_after(folder, appear)
    assert line.startswith(f"cannot load {folder}/2: " if number == 1 else "serving sagan, version 2: ")
    assert "\n" not in line


@pytest.mark.parametrize("file", FILES[:3])
@pytest.mark.parametrize("kind", ["circle", "nowhere", "folder"])
def test_service_reports_links_and_folders_in_place_of_files(version_1, tmp_path, file, kind):
    folder = tmp_path / "sagan"
    folder.mkdir()
    copy_version(version_1, folder, 1)

    def appear():
        shutil.copytree(folder / "1", folder / ".new")
        path = folder / ".new" / file
        path.unlink()
        if kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(path.name if kind == "circle" else "nowhere")
        os.rename(folder / ".new", folder / "2")

    number, lines = served_after(folder, appear)
    assert number == 1
    # Without a graph or an index the version is incomplete and not loaded.
    assert not lines if not file.endswith("00001") else len(lines) == 1 and lines[0].startswith("cannot load")


def record(length):
    """The start of a TFRecord of a claimed length, with the right checksum of it."""
    header, crc = struct.pack("<Q", length), 0xFFFFFFFF
    for byte in header:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return header + struct.pack("<I", masked) + b"x" * 100


def wide_request(path):
    """Writes a request with one value for all of 2^30 elements."""
    log = prediction_log_pb2.PredictionLog()
    tensor = log.predict_log.request.inputs["latent"]
    tensor.dtype, tensor.float_val[:] = tf.float32.as_datatype_enum, [1.0]
    tensor.tensor_shape.dim.add(size=1 << 30)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(log.SerializeToString())


def sparse_record(path):
    path.write_bytes(record(1 << 30))
    os.truncate(path, (1 << 30) + 16)


HUGE_REQUESTS = {
    "length 2^50": lambda path: path.write_bytes(record(1 << 50)),
    "length 2^64": lambda path: path.write_bytes(record((1 << 64) - 8)),
    "sparse file": sparse_record,
    "one value": wide_request,
}


@pytest.mark.parametrize("kind", HUGE_REQUESTS)
def test_service_rejects_huge_warm_up_requests_without_using_memory(version_1, tmp_path, kind):
    folder = tmp_path / "sagan"
    folder.mkdir()
    copy_version(version_1, folder, 1)

    def appear():
        shutil.copytree(folder / "1", folder / ".new")
        path = folder / ".new" / FILES[3]
        path.parent.mkdir(exist_ok=True)
        HUGE_REQUESTS[kind](path)
        os.rename(folder / ".new", folder / "2")

    def update():
        number, (line,) = served_after(folder, appear)
        assert number == 1 and line.startswith(f"cannot load {folder}/2: ")

    assert peak_growth(update) < 2**29


def write_file(path):
    tf.io.write_file(path, "x")


def print_to_file(path):
    tf.print("x", output_stream=f"file://{path}")


def save_tensors(path):
    tf.raw_ops.SaveV2(prefix=path, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.constant(1.0)])


def write_summary(path):
    options = {"max_queue": 1, "flush_millis": 0, "filename_suffix": ""}
    tf.raw_ops.CreateSummaryFileWriter(writer=tf.raw_ops.SummaryWriter(), logdir=path, **options)


def read_lines(path):
    tf.print(next(iter(tf.data.TextLineDataset("/etc/passwd"))), output_stream=f"file://{path}")


def call_python(path):
    tf.py_function(lambda: open(path, "w").close(), [], [])


@pytest.mark.parametrize("effect", [write_file, print_to_file, save_tensors, write_summary, read_lines, call_python])
def test_service_rejects_version_with_effects(version_1, tmp_path, effect):
    folder, trap = tmp_path / "sagan", tmp_path / "ran"
    folder.mkdir()
    copy_version(version_1, folder, 1)

    class Trap(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([1, 3], tf.float32), tf.TensorSpec([1], tf.int32)], autograph=False)
        def run(self, latent, label):
            effect(str(trap))
            return {"image": latent}

    def appear():
        module = Trap()
        tf.saved_model.save(module, str(folder / ".new"), signatures={"serving_default": module.run})
        write_warm_up(folder / ".new", label=0)
        os.rename(folder / ".new", folder / "2")

    number, (line,) = served_after(folder, appear)
    assert number == 1 and "its graph has " in line and not trap.exists()


def test_server_serves_new_version_when_folder_has_circular_links(version_1, tmp_path):
    folder = tmp_path / "sagan"
    folder.mkdir()
    copy_version(version_1, folder, 1)
    with running(folder) as server:
        os.symlink(folder, folder / "1" / "again")
        os.symlink("3", folder / "3")
        copy_version(version_1, folder, 2)
        wait_until(lambda: json.loads(server.get("/v1/models/sagan").body)["model_version_status"][0]["version"] == "2")
        assert server.predict({"inputs": make_inputs(1)}).status == 200
