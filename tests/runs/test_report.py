"""The command `python -m sagan_tf.report`."""

import functools
import json
import subprocess
import sys

import pytest
from small_runs import make_run
from toy_networks import toy_networks as toy_networks

from sagan_tf import report
from sagan_tf.config import QUICK_START
from sagan_tf.runs.report import shell_command

pytestmark = pytest.mark.usefixtures("toy_networks")


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy_networks):
    return make_run(tmp_path_factory.mktemp("run") / "run")


def data_of(path):
    page = path.read_text(encoding="utf-8")
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


@pytest.fixture
def refusal(command_error):
    return functools.partial(command_error, report.main)


@pytest.mark.slow
def test_report_command_writes_page_into_run_folder(run, capsys):
    report.main([str(run.path)])
    assert capsys.readouterr().out == f"{run.report_path}\n"
    (told,) = data_of(run.report_path)["runs"]
    assert (told["name"], told["step"], told["steps"]) == ("run", 200, QUICK_START.training.steps)
    assert told["curves"]["gamma/g/attention_16"] == [[100, 200], [0.1, 0.2]]
    assert [picture["step"] for picture in told["samples"]] == [100, 200]
    assert ["training.loss", QUICK_START.training.loss] in told["config"]
    assert {"tensorflow", "cpu"} <= {name for name, _ in told["environment"]}
    assert told["commands"][1:-1] == [f"sagan {command} {run.path}" for command in ("sample", "attend", "evaluate")]
    assert told["class_names"] == ["disc", "ring", "square", "cross"] and told["commands"][-1].count("\n") == 4
    space = {}
    exec(told["commands"][-1], space)  # the lines run as they stand
    assert space["images"].shape == (8, 32, 32, 3) and set(space["maps"]) == {"attention_8", "attention_16"}


@pytest.mark.parametrize(
    ("program", "start"),
    [
        ("/usr/lib/python3/sagan_tf/train.py", ["python", "-m", "sagan_tf.train"]),
        ("/usr/lib/python3/sagan_tf/__main__.py", ["python", "-m", "sagan_tf"]),
        ("/home/me/.local/bin/sagan", ["sagan"]),
        ("my study/go.py", ["python", "my study/go.py"]),
    ],
)
def test_report_command_line_starts_the_same_program_in_a_shell(program, start):
    arguments = ["--run", "a b", "--data.name", "it's $HOME", "--training.augmentation", "[]", "--x", "*"]
    line = shell_command([program, *arguments])
    echo = subprocess.run(["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True)
    assert echo.stdout.splitlines() == [*start, *arguments]


def test_report_command_accepts_killed_run(tmp_path):
    run = make_run(tmp_path / "run", steps=(7,))
    with open(run.metrics_path, "a") as file:
        file.write('{"step": 8, "d_lo')  # as left by a killed process
    (run.samples_path / ".step_00000008.png.abcdefgh.partial").mkdir()
    report.main([str(run.path)])
    (told,) = data_of(run.report_path)["runs"]
    assert told["step"] == 7 and [picture["step"] for picture in told["samples"]] == [7]


def test_report_command_compares_several_runs_on_one_page(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    other = make_run(tmp_path / "other", steps=(), attention_sizes=(16,))
    report.main([str(run.path), str(other.path)])
    assert capsys.readouterr().out == "comparison.html\n"
    data = data_of(tmp_path / "comparison.html")
    assert [each["name"] for each in data["runs"]] == ["run", "other"]
    assert data["differences"] == [
        [f"{network}.attention_sizes", ["[8, 16]", "[16]"]] for network in ("generator", "discriminator")
    ]
    report.main([str(run.path), "--out", "deep/page.html"])
    assert (tmp_path / "deep" / "page.html").is_file()
    namesake = make_run(tmp_path / "second" / "run", steps=())
    report.main([str(run.path), "second/run"])
    names = [each["name"] for each in data_of(tmp_path / "comparison.html")["runs"]]
    assert names == [str(run.path), "second/run"] and namesake.name == run.name


def test_report_command_rejects_bad_arguments(run, tmp_path, refusal):
    assert refusal(run.path, tmp_path).startswith(f"{tmp_path}: not a run folder")
    assert refusal(run.path, "--out", tmp_path) == f"--out: {tmp_path} is a folder. Name a file."
    assert refusal().startswith("command line: the following arguments are required: RUN")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc takes no new files")
def test_report_rejects_path_that_cannot_be_created(run, refusal):
    for path in ("/proc/x.html", "/proc/x/page.html"):
        line = refusal(run.path, "--out", path)
        assert line.startswith("cannot open or create `/proc/") and line.endswith("directory. Choose another path.")
