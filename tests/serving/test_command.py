"""The command `python -m sagan_tf.serve`."""

import functools
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from serving.models import copy_version, make_inputs
from serving.servers import Running, wait_until_read

from sagan_tf import cli, serve
from sagan_tf.commands.option_parser import parse_options
from sagan_tf.commands.options import ServeOptions
from sagan_tf.commands.serve import limits
from sagan_tf.errors import install_hint
from sagan_tf.serving.limits import Limits

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def refusal(command_error):
    return functools.partial(command_error, serve.main)


def test_serve_rejects_missing_folder(refusal, tmp_path):
    assert "no such folder. `sagan export" in refusal(tmp_path / "nothing")


@pytest.mark.parametrize("arguments", [(), ("folder", "--pretrained", "twins")])
def test_serve_rejects_none_or_two_of_what_it_serves(refusal, arguments):
    line = refusal(*arguments)
    assert line.startswith("command line: give the folder of an export, hf://owner/name or --pretrained NAME")


def test_serve_rejects_folder_without_a_version(refusal, tmp_path):
    (tmp_path / "1").mkdir()
    assert refusal(tmp_path).startswith(f"{tmp_path} holds no model")


def test_serve_rejects_a_path_that_tensorflow_takes_for_a_pattern(refusal, version_1, tmp_path):
    shutil.copytree(version_1, tmp_path / "out*" / "1")
    line = refusal(tmp_path / "out*")
    assert line == f"{tmp_path / 'out*'}: TensorFlow takes `*` in the path for a pattern. Rename or move the folder."


def test_serve_rejects_port_in_use(refusal, version_1):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for option in ("--port", "--rest_port", "--rest_api_port"):
            free = "--port" if option != "--port" else "--rest_port"
            line = refusal(version_1.parent, option, port, free, 0)
            assert line.startswith(f"cannot listen on 127.0.0.1:{port}: Address already in use")


def test_serve_rejects_foreign_host(refusal, version_1):
    assert "cannot listen on 192.0.2.1:" in refusal(version_1.parent, "--host", "192.0.2.1")
    assert refusal(version_1.parent, "--host", "a..b").startswith("cannot listen on a..b:")
    free = ("--port", 0, "--rest_port", 0)
    assert refusal(version_1.parent, "--host", "192.0.2.1", *free).startswith("cannot listen on 192.0.2.1:0: ")


def test_serve_rejects_one_port_for_both_protocols(refusal, version_1):
    line = refusal(version_1.parent, "--port", 8765, "--rest_port", 8765)
    reason = "REST and gRPC need a port each. Choose another port or host."
    assert line == f"cannot listen on 127.0.0.1:8765: {reason}"


def test_serve_rejects_port_that_another_process_took_meanwhile(refusal, version_1, monkeypatch):
    """As of the second address of `localhost`, which is not tried beforehand."""
    from sagan_tf.serving import server

    monkeypatch.setattr(server, "_check_port", lambda host, port: None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for option, free in (("--port", "--rest_port"), ("--rest_port", "--port")):
            assert refusal(version_1.parent, option, port, free, 0).startswith(f"cannot listen on 127.0.0.1:{port}: ")


def test_serve_rejects_folder_when_no_version_can_be_loaded(capsys, version_1, tmp_path):
    shutil.copytree(version_1, tmp_path / "sagan" / "1")
    (tmp_path / "sagan" / "1" / "saved_model.pb").write_bytes(b"nothing of the kind")
    with pytest.raises(SystemExit) as caught:
        serve.main([str(tmp_path), "--port", "0", "--rest_port", "0"])
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and out.startswith(f"cannot load {tmp_path}/sagan/1: ")
    assert err == f"error: no version in {tmp_path} can be loaded, see above.\n"


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("--port", "70000", "--port: `70000` is not a port, 0 to 65535."),
        ("--max_batch_size", "0", f"--max_batch_size: `0` is not a whole number from 1 to {2**62 - 1}."),
        ("--batch_timeout_ms", "-1", "--batch_timeout_ms: `-1` is not a finite number from 0."),
        ("--max_body_mb", "inf", "--max_body_mb: `inf` is not a number of MiB above 0 and below 2048."),
        ("--max_body_mb", "4096", "--max_body_mb: `4096` is not a number of MiB above 0 and below 2048."),
        ("--poll_seconds", "nan", "--poll_seconds: `nan` is not a number of seconds above 0, up to 1,000,000."),
        ("--client_timeout_seconds", "1e12", "`1e12` is not a number of seconds above 0, up to 1,000,000."),
        ("--drain_seconds", "1e12", "--drain_seconds: `1e12` is not a number of seconds from 0 to 1,000,000."),
        ("--max_connections", "3000000000", "`3000000000` is not a whole number from 1 to 1000000."),
        ("--parallel_batches", "2.5", f"--parallel_batches: `2.5` is not a whole number from 1 to {2**62 - 1}."),
        ("--nothing", "1", "unrecognized arguments"),
    ],
)
def test_serve_rejects_bad_option(refusal, tmp_path, option, value, message):
    assert message in refusal(tmp_path, option, value)


def test_serve_names_missing_package(refusal, version_1, monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    line = refusal(version_1.parent)
    assert line == f"aiohttp is not installed. {install_hint('serving')}"


def test_serve_options_set_the_limits():
    arguments = (
        "d --max_batch_size 3 --batch_timeout_ms 2.5 --max_body_mb 0.5 --poll_seconds 9 --max_enqueued_batches 4 "
        "--drain_seconds 0 --parallel_batches 5 --allow_any_graph --max_connections 6 --client_timeout_seconds 7 "
        "--allowed_hosts Me"
    )
    options = parse_options(ServeOptions, arguments.split(), "serve")
    assert limits(options) == Limits(3, 0.0025, 4, 2**19, 9.0, 0.0, 5, True, 6, 7.0, ("127.0.0.1", "me"))


def test_sagan_serve_is_the_same_command():
    assert cli.COMMANDS["serve"][0] == "sagan_tf.serve"


class Process:
    """The command in a process."""

    def __init__(self, *arguments, code=None):
        program = ["-c", code] if code else ["-m", "sagan_tf.serve"]
        self.process = subprocess.Popen(
            [sys.executable, *program, *map(str, arguments), "--port", "0", "--rest_port", "0"], cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )  # fmt: skip

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def lines_until(self, pattern):
        lines = []
        for line in self.process.stdout:
            lines.append(line.rstrip("\n"))
            if match := re.search(pattern, line):
                return lines, match
        raise AssertionError(f"ended before it printed {pattern}: {lines}, {self.process.stderr.read()}")


# The largest that the options take.
LARGE = {
    "max_body_mb": 2047.999999, "client_timeout_seconds": 1e6, "drain_seconds": 1e6, "poll_seconds": 1e6,
    "max_connections": 10**6, "max_batch_size": 2**62 - 1, "max_enqueued_batches": 2**62 - 1,
    "parallel_batches": 2**62 - 1, "batch_timeout_ms": 1e308,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("SIGINT", {"batch_timeout_ms": 60_000}),  # longer than the drain
        pytest.param("SIGTERM", {"batch_timeout_ms": 60_000}, marks=pytest.mark.stress),
        pytest.param("SIGINT", LARGE, id="largest limits"),
    ],
)
def test_serve_stops_on_signal_without_losing_a_request(version_1, name, numbers):
    command = Process(version_1.parent.parent, *(f"--{name}={value}" for name, value in numbers.items()))
    try:
        lines, match = command.lines_until(r"^REST on (http://.*)/v1/models, gRPC on (.*)$")
        assert lines[:-1] == ["serving sagan, version 1: attention, no_batch, sample, serving_default, texts"]
        request = http.client.HTTPConnection(match[1].removeprefix("http://"), timeout=30)
        request.request("POST", "/v1/models/sagan:predict", json.dumps({"inputs": make_inputs(1)}))
        wait_until_read(Running(match[1], match[2]))  # the request is now queued
        command.process.send_signal(getattr(signal, name))
        status = request.getresponse().status
        request.close()
        out, err = command.process.communicate(timeout=30)
    finally:
        command.process.kill()
    assert command.process.returncode == 0 and out == "stopping: answering the waiting requests\n"
    assert status == 200
    assert "Traceback" not in err and "deprecated" not in err


def seconds_to_end(command):
    """Sends SIGTERM to a command and returns how long it takes to end; fails after 20 s."""
    start = time.monotonic()
    command.process.send_signal(signal.SIGTERM)
    command.process.wait(20)
    return time.monotonic() - start


def test_serve_ends_on_sigterm_when_its_output_is_blocked_and_a_version_hangs(version_1, tmp_path):
    """Nobody reads the pipe of its output, which is full; the warm-up request of version 2 never ends."""
    model = tmp_path / "sagan"
    model.mkdir()
    copy_version(version_1, model, 1)
    command = Process(model, "--poll_seconds", "0.05", "--drain_seconds", "1", code=HANGING)
    try:
        command.lines_until("^REST on")
        copy_version(version_1, model, 2)
        time.sleep(1.5)
        assert seconds_to_end(command) < 10
    finally:
        command.end()


def test_serve_ends_on_sigterm_while_the_first_version_loads(version_1, tmp_path):
    model = tmp_path / "hangs"
    model.mkdir()
    copy_version(version_1, model, 2)
    command = Process(model, "--drain_seconds", "1", code=HANGING)
    try:
        command.lines_until("^loading")
        assert seconds_to_end(command) < 10
    finally:
        command.end()


# The command with versions that never finish loading from number 2 on, and a log of more lines than a pipe holds.
HANGING = """
import sys, time
from sagan_tf import serve
from sagan_tf.serving import loaded_version, service

class Hanging(loaded_version.LoadedVersion):
    def __init__(self, path, *arguments):
        if path.endswith("/2"):
            print("loading", "x" * 100_000 if "sagan" in path else "", flush=True)
            time.sleep(1000)
        super().__init__(path, *arguments)

service.LoadedVersion = Hanging
serve.main()
"""
