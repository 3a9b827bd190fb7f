"""Commands compute as the config of their run says; Python users' processes stay as they are."""

import dataclasses

import pytest
import tensorflow as tf

import sagan_tf
from sagan_tf import attend, convert, push, sample
from sagan_tf.commands.options import ServeOptions
from sagan_tf.commands.serve import _served_folder
from sagan_tf.config import QUICK_START, save_config
from sagan_tf.errors import UserError
from sagan_tf.export.__main__ import main as export

is_on = tf.config.experimental.tensor_float_32_execution_enabled


@pytest.fixture(autouse=True)
def switch():
    """Sets TF32 of the process, which is on before a test."""
    switch, before = tf.config.experimental.enable_tensor_float_32_execution, is_on()
    switch(True)
    yield switch
    switch(before)


@pytest.fixture
def make_folder(tmp_path):
    """Writes a run folder without a generator, with a setting of TF32."""

    def make(value):
        config = dataclasses.replace(QUICK_START, hardware=dataclasses.replace(QUICK_START.hardware, tf32=value))
        save_config(config, tmp_path / "config.yaml")
        return tmp_path

    return make


@pytest.mark.parametrize("main, options", [
    (sample.main, []), (attend.main, ["--network", "generator"]), (export, ["--out", "x"]), (push.main, ["hf://me/toy"]),
    (convert.main, ["--to", "biggan_pytorch", "--out", "x"]),
])  # fmt: skip
def test_command_takes_tf32_of_its_run(main, options, make_folder, switch, command_error, monkeypatch):
    for value in (False, True):
        folder = make_folder(value)
        monkeypatch.chdir(folder)
        switch(not value)
        assert "there is no generator yet" in command_error(main, folder, *options)
        assert is_on() is value


def test_serve_of_an_exported_folder_leaves_tf32_off(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"")
    with _served_folder(ServeOptions(folder=str(tmp_path))):
        assert is_on() is False


def test_load_run_keeps_tf32_of_the_process(make_folder):
    with pytest.raises(UserError, match="there is no generator yet"):
        sagan_tf.load_run(make_folder(False))
    assert is_on() is True
