"""The commands `sagan` and `python -m sagan_tf.train`: exit codes, one line on bad input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sagan_tf
from sagan_tf import cli, train
from sagan_tf.config import read_config

ROOT = Path(__file__).resolve().parents[1]


def exit_of(capsys, main, *arguments):
    """Exit code, stdout and stderr of a command that ends itself."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def test_sagan_prints_version(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"sagan_tf {sagan_tf.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_sagan_help_lists_every_command(capsys, arguments):
    cli.main(arguments)
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out and purpose in out for command, (_, purpose) in cli.COMMANDS.items())


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("tain", "error: unknown command `tain`. Did you mean `train`?\n"),
        ("zzz", f"error: unknown command `zzz`. Choose from {', '.join(cli.COMMANDS)}.\n"),
    ],
)
def test_sagan_rejects_unknown_command(capsys, command, line):
    assert exit_of(capsys, cli.main, command) == (2, "", line)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_sagan_passes_arguments_and_name_to_the_command(capsys, command):
    code, out, _ = exit_of(capsys, cli.main, command, "--help")
    assert code == 0 and out.startswith(f"usage: sagan {command} [")


def test_sagan_prints_names_that_the_encoding_of_the_output_lacks(tmp_path):
    """As of a pipe on Windows, or in a Latin locale: it ended in a traceback."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "sagan_tf", "train", "--data.name", "größe/犬"]
    done = subprocess.run([*command, "--help"], capture_output=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"(default: gr\xf6\xdfe/\\u72ac)" in b" ".join(done.stdout.split())
    with open(tmp_path / "printed.yaml", "wb") as file:
        subprocess.run([*command, "--print_config"], stdout=file, env=environment, cwd=tmp_path, check=True)
    assert read_config(tmp_path / "printed.yaml").data.name == "größe/犬"


def test_sagan_configs_refuses_arguments_in_one_line(capsys):
    code, out, err = exit_of(capsys, cli.main, "configs", "cifar10")
    assert (code, out) == (2, "")
    assert err == "error: command line: unrecognized arguments: cifar10. --help lists the options.\n"


def test_train_rejects_bad_option_before_slow_imports(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sagan_tf.experiment.train", None)  # importing it would raise
    code, out, err = exit_of(capsys, train.main, "--training.stepz", "5")
    assert (code, out) == (2, "")
    assert err == "error: command line: unknown option --training.stepz. Did you mean `--training.steps`?\n"


def test_train_passes_the_config_and_prints_the_run_folder(capsys, monkeypatch, tmp_path):
    class Experiment:
        @staticmethod
        def train(config, allow_data_change):
            Experiment.config, Experiment.allowed = config, allow_data_change
            return type("Run", (), {"path": config.run, "stopped_by": None})

    monkeypatch.setitem(sys.modules, "sagan_tf.experiment.train", Experiment)
    train.main(["--run", str(tmp_path), "--training.steps", "5"])
    assert Experiment.config.training.steps == 5 and not Experiment.allowed
    assert capsys.readouterr().out == f"Run folder: {tmp_path}\n"
    train.main(["--run", str(tmp_path), "--allow_data_change"])
    assert Experiment.allowed


@pytest.mark.parametrize("command", [["-m", "sagan_tf.train"], ["-m", "sagan_tf", "train"]])
def test_train_process_rejects_bad_input_in_one_line(command, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command, "--config", "nowhere.yaml"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    ours = [line for line in done.stderr.splitlines() if "nowhere" in line]
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert ours == ["error: nowhere.yaml: no such config file. `sagan configs` lists those that come with the package."]
    assert os.listdir(tmp_path) == []
