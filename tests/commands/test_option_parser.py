"""Parsers made from dataclasses."""

import ast
import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from sagan_tf.commands import attend, options
from sagan_tf.commands.classes import DEFAULT_CLASSES
from sagan_tf.commands.option_parser import parse_options
from sagan_tf.config.values import field_helps
from sagan_tf.errors import UserError
from sagan_tf.evaluation import defaults, metric_names
from sagan_tf.export.model_versions import MAX_VERSION
from sagan_tf.generation import truncation

COMMANDS = {
    options.EvaluateOptions: ["run"],
    options.SampleOptions: ["run"],
    options.AttendOptions: ["run"],
    options.ConvertOptions: ["generator.npz", "--out", "run"],
    options.ReportOptions: ["run"],
    options.ExportOptions: ["run", "--out", "folder"],
    options.PushOptions: ["run", "hf://me/toy"],
    options.ServeOptions: ["folder"],
}
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("cls", COMMANDS, ids=lambda cls: cls.__name__)
def test_option_parser_has_help_and_default_for_every_field(capsys, cls):
    parsed = parse_options(cls, COMMANDS[cls], "prog")
    with pytest.raises(SystemExit):
        parse_options(cls, ["--help"], "prog")
    out = capsys.readouterr().out
    for field in dataclasses.fields(cls):
        if field.metadata.get("positional"):
            continue
        assert f" --{field.name}" in out
        if field.default is not dataclasses.MISSING:
            assert getattr(parsed, field.name) == field.default


def test_option_parser_reads_options_in_their_types():
    arguments = "run --out null --num-samples 30 --truncation=0.5 --best --reference null --pixel_range -1,1".split()
    parsed = parse_options(options.EvaluateOptions, [*arguments, "--metrics", "fid, kid,"], "prog")
    assert (parsed.subject, parsed.out, parsed.num_samples, parsed.truncation) == ("run", Path("null"), 30, 0.5)
    assert (parsed.metrics, parsed.best, parsed.reference, parsed.pixel_range) == (("fid", "kid"), True, "null", "-1,1")
    assert parse_options(options.EvaluateOptions, ["run", "--truncation_curve"], "prog").truncation_curve[-1] == 2
    parsed = parse_options(options.EvaluateOptions, ["run", "--truncation_curve", "3"], "prog")
    assert parsed.truncation_curve == (3,)
    parsed = parse_options(options.AttendOptions, ["run", "--step", "all", "--points", "3,10; 20,5"], "prog")
    assert (parsed.step, parsed.points) == ("all", ((3, 10), (20, 5)))
    parsed = parse_options(options.ServeOptions, ["folder", "--rest_api_port", "0"], "prog")
    assert parsed.rest_port == 0 and type(parsed.rest_port) is int  # no subclass: the server needs a plain int


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (options.SampleOptions, ["--columns", "1001"], "--columns: `1001` is not a whole number from 1 to 1000."),
        (options.SampleOptions, ["--seed", "1.5"], f"--seed: `1.5` is not a whole number from 0 to {2**62 - 1}."),
        (
            options.SampleOptions,
            ["--seed", str(2**62)],
            f"--seed: `{2**62}` is not a whole number from 0 to {2**62 - 1}.",
        ),
        (options.SampleOptions, ["--sweep", "1,nan"], "--sweep: `nan` is not a finite number above 0."),
        (options.SampleOptions, ["--sweep", "inf"], "--sweep: `inf` is not a finite number above 0."),
        (options.SampleOptions, ["--sweep", "0.3,,1"], "--sweep: `0.3,,1` has an empty item. Remove the extra comma."),
        (options.SampleOptions, ["--classes", ",a"], "--classes: `,a` has an empty item."),
        (options.SampleOptions, ["--classes", ","], "--classes: the list is empty. Name something, or leave"),
        (options.SampleOptions, ["--animate", "gifs"], "--animate: `gifs` is not one of gif, webp, mp4. Did you"),
        (
            options.EvaluateOptions,
            ["--pixel_range", "0,2"],
            "--pixel_range: `0,2` is not one of `-1,1`, `0,1`, `0,255`.",
        ),
        (options.SampleOptions, ["--seed"], "command line: argument --seed: expected one argument."),
        (options.SampleOptions, ["--see", "1"], "command line: unrecognized arguments: --see 1."),
        (options.SampleOptions, ["more"], "command line: unrecognized arguments: more."),
        (options.AttendOptions, ["--points", "1,²"], "--points: `1,²` is not a point."),
        (
            options.ExportOptions,
            ["--version", str(2**63)],
            f"--version: `{2**63}` is not a whole number from 1 to {MAX_VERSION}.",
        ),
        (options.ExportOptions, ["--name", "a\n"], "--name: `a `"),
        (options.ExportOptions, ["--out", ""], "--out: the path is empty. Name one, or leave --out out."),
        (options.ExportOptions, ["--out", "hf://me/y"], "--out: hf://me/y is a repository of the Hub, not a path."),
        (options.ExportOptions, ["--out=~/a"], "--out: only a shell knows `~`, at the start of a word."),
    ],
)
def test_option_parser_rejects_bad_option_with_name_and_value(cls, arguments, message):
    with pytest.raises(UserError) as caught:
        parse_options(cls, [*COMMANDS[cls], *arguments], "prog")
    assert str(caught.value).startswith(message)


def test_command_help_names_the_defaults_that_the_commands_choose():
    helps = field_helps(options.AttendOptions)
    assert helps["images"].endswith(
        f"Defaults to {attend.IMAGES}, to {attend.IMAGES_PER_STEP} with --step all, and to {attend.EXPLORER_IMAGES} in "
        "the explorer."
    )
    for text in (helps["classes"], field_helps(options.SampleOptions)["classes"]):
        assert text.endswith(f"Defaults to the first {DEFAULT_CLASSES}.")


def test_modules_of_default_values_import_nothing():
    for module in (defaults, metric_names, truncation):
        nodes = ast.walk(ast.parse(inspect.getsource(module)))
        assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes)


def test_help_imports_neither_keras_nor_the_commands():
    code = """
import contextlib, sys
from sagan_tf import cli
before = set(sys.modules)
for command in cli.COMMANDS:
    with contextlib.suppress(SystemExit):
        cli.main([command, "--help"])
slow = ("tensorflow", "keras", "numpy", "sagan_tf.training.gan", "sagan_tf.runs", "sagan_tf.experiment")
print([name for name in set(sys.modules) - before if name.startswith(slow)])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("arguments", "name"), [(["\udcff/pics"], "subject"), (["run", "--out", "x\udcff"], "--out")])
def test_option_parser_refuses_paths_that_are_not_utf_8(arguments, name):
    with pytest.raises(UserError, match=rf"^{name}: the name b'.*\\xff.*' is not valid UTF-8. Rename it.$"):
        parse_options(options.EvaluateOptions, arguments, "prog")
