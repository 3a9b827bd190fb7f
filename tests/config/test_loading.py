"""Sources of settings and their order; wrong names and types are reported in one line with their place."""

import dataclasses
import json
import re
import string

import pytest
import yaml
from damage import damage, one_line_or_none, places, replaced, tries
from hypothesis import given
from hypothesis import strategies as st

from sagan_tf import configs
from sagan_tf.config import (
    QUICK_START,
    Config,
    checks,
    config_differences,
    load_command_line,
    load_config,
    read_config,
    save_config,
)
from sagan_tf.config.catalog import named_configs
from sagan_tf.config.command_line import COMMON
from sagan_tf.config.keys import field_types
from sagan_tf.config.values import type_in_words
from sagan_tf.errors import UserError

# Nine lists of nine aliases each would be 387 million values.
ALIASES = "generator:\n  attention_sizes: [&a0 [8], "
ALIASES += ", ".join(f"&a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(9)) + "]\n"


def test_load_config_returns_quick_start_without_arguments():
    assert load_config([]) == QUICK_START


def test_load_config_flags_change_the_quick_start():
    config = load_config(["--training.steps", "7"])
    assert config_differences(QUICK_START, config) == [f"training.steps: {QUICK_START.training.steps} -> 7"]


def test_load_config_file_starts_from_the_defaults_and_names_the_run(yaml_file):
    config = load_config(["--config", yaml_file("training: {steps: 7}", "seven.yaml")])
    assert config_differences(Config(), config) == ["run: null -> runs/seven", "training.steps: 1000000 -> 7"]


def test_load_config_prefers_flags_then_later_files(yaml_file):
    first = yaml_file("training: {steps: 1, batch_size: 8, seed: 5}", "first.yaml")
    second = yaml_file("training: {steps: 2, batch_size: 16}", "second.yaml")
    config = load_config(["--training.steps=3", "--config", first, "--config", second])
    assert (config.training.steps, config.training.batch_size, config.training.seed) == (3, 16, 5)
    assert config.run == "runs/second"


def note_of(*arguments):
    return load_command_line(arguments)[1].note


def test_load_config_of_a_run_folder_means_the_folder_as_it_is_now(tmp_path, monkeypatch, yaml_file):
    path, file = tmp_path / "moved run" / "config.yaml", "environment.json"
    path.parent.mkdir()
    (path.parent / "generator.keras").touch()  # as of a download
    save_config(dataclasses.replace(QUICK_START, run=str(tmp_path / "old")), path)
    arguments = ["--config", str(path)]
    assert load_config(arguments).run == str(tmp_path / "old")  # a folder with a config alone is none of a run
    (path.parent / file).touch()
    assert load_config(arguments).run == str(path.parent)
    assert note_of(*arguments).startswith(f"Run folder: {path.parent}, ") and str(tmp_path / "old") in note_of(
        *arguments
    )
    assert load_config([*arguments, "--run", "new"]).run == "new" and note_of(*arguments, "--run", "new") is None
    other = ["--config", yaml_file("run: other", "other.yaml")]
    assert load_config([*arguments, *other]).run == "other" and note_of(*arguments, *other) is None
    assert load_config([*other, *arguments]).run == str(path.parent)
    monkeypatch.chdir(path.parent)
    assert load_config(["--config", "config.yaml"]).run == str(path.parent)
    assert read_config(path).run == str(tmp_path / "old")  # what the file says

    (tmp_path / "old").symlink_to(path.parent)
    assert load_config(arguments).run == str(tmp_path / "old") and note_of(*arguments) is None
    path.write_text('run: "a\\0"\n')
    assert load_config(arguments).run == str(path.parent)


def test_load_config_keeps_other_defaults_of_a_section():
    # The discriminator's rate has its own default and must not fall back to that of OptimizerConfig.
    config = load_config(["--discriminator_optimizer.beta_2", "0.99"])
    assert config.discriminator_optimizer.learning_rate == QUICK_START.discriminator_optimizer.learning_rate != 1e-4


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["--generator.attention_sizes", "[8,16]"], "generator.attention_sizes", (8, 16)),
        (["--generator.attention_sizes=[]"], "generator.attention_sizes", ()),
        (["--training.augmentation", "[color, cutout]"], "training.augmentation", ("color", "cutout")),
        (["--training.ema_decay", "null"], "training.ema_decay", None),
        (["--data.conditional", "false"], "data.conditional", False),
        (["--data.flip"], "data.flip", True),
        (["--data.flip", "--data.dequantize", "false"], "data.flip", True),
        (["--data.flip=false"], "data.flip", False),
        (["--generator_optimizer.learning_rate", "5e-4"], "generator_optimizer.learning_rate", 0.0005),
        (["--training.r1_weight", "10"], "training.r1_weight", 10.0),
        (["--data.name", "2024"], "data.name", "2024"),
        (["--run", "no"], "run", "no"),
        (["--run", "null"], "run", "runs/quickstart"),
    ],
)
def test_load_config_reads_flag_in_its_type(argv, key, value):
    read = dict(checks.flat_fields(load_config(argv)))[key]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("generator:\n  attention_sizes: [8, 16]\n", "generator.attention_sizes", (8, 16)),
        ("generator:\n  attention_sizes:\n  - 8\n", "generator.attention_sizes", (8,)),
        ("training:\n  ema_decay: null\n", "training.ema_decay", None),
        ("training:\n  ema_decay:\n", "training.ema_decay", None),
        ("training:\n  r1_weight: 1e-4\n", "training.r1_weight", 0.0001),
        ("training:\n", "training.steps", 1_000_000),
        ("training.steps: 5\n", "training.steps", 5),
        ("data: {name: 2024-01-01}\n", "data.name", "2024-01-01"),
        ("data: {flip: yes}\n", "data.flip", True),
        (
            "generator_optimizer: &adam {beta_2: 0.5}\ndiscriminator_optimizer: *adam\n",
            "discriminator_optimizer.beta_2",
            0.5,
        ),
    ],
)
def test_load_config_reads_yaml_in_its_type(yaml_file, text, key, value):
    read = dict(checks.flat_fields(load_config(["--config", yaml_file(text)])))[key]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--trainig.steps", "5"], "unknown option --trainig.steps. Did you mean `--training.steps`?"),
        (["--training.step", "5"], "unknown option --training.step. Did you mean `--training.steps`?"),
        (["--training.batch-size=5"], "unknown option --training.batch-size. Did you mean `--training.batch_size`?"),
        (["--batch_size", "5"], "unknown option --batch_size. Did you mean `--training.batch_size`?"),
        (
            ["--learning_rate", "1"],
            "unknown option --learning_rate. Did you mean `--generator_optimizer.learning_rate` or "
            "`--discriminator_optimizer.learning_rate`?",
        ),
        (["--confg", "x.yaml"], "unknown option --confg. Did you mean `--config`?"),
        (["--qqq"], "unknown option --qqq."),
        (["cifar10.yaml"], "unexpected `cifar10.yaml`. Options look like --training.steps 1000."),
        (["--training", "x"], "--training is a section; give its fields, such as --training.steps 1000."),
        (["--training.steps"], "a value must follow --training.steps."),
        (["--config"], "a value must follow --config."),
        (["--print_config=1"], "--print_config takes no value."),
    ],
)
def test_load_config_rejects_unknown_flags(refusal, argv, message):
    assert refusal(*argv) == f"command line: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  step: 5\n", ", line 2: unknown key `training.step`. Did you mean `training.steps`?"),
        ("steps: 5\n", ", line 1: unknown key `steps`. Did you mean `training.steps`?"),
        ("\ntraning:\n  steps: 5\n", ", line 2: unknown key `traning`. Did you mean `training`?"),
        ("training:\n  steps: 5\n  steps: 6\n", ", line 3: `training.steps` is given twice."),
        ("training:\n  steps: 5\ntraining:\n  seed: 6\n", ", line 3: `training` is given twice."),
        ("training:\n  steps: 5\ntraining.steps: 6\n", ", line 3: `training.steps` is given twice."),
        ("training: 5\n", ", line 1: `training` must hold `key: value` lines, indented below it."),
        (
            "training:\n  loss:\n    hinge: 1\n",
            ", line 2: `training.loss` must be one of hinge, non_saturating, wasserstein, least_squares, relativistic, "
            "without keys below it.",
        ),
        ("- 1\n", ", line 1: expected `key: value` lines."),
        ("? [a]\n: 1\n", ", line 1: a key must be a name."),
        ("", ": the file holds no settings."),
        ("# nothing\n", ": the file holds no settings."),
        ("run: [\n", ", line 2: while parsing a flow node, expected the node content, but found '<stream end>'."),
        ("a: 1\n---\nb: 2\n", ", line 2: expected a single document in the stream, but found another document."),
        (b"run: \x80\n", ": not a text file in UTF-8."),
        ("run: " + "[" * 5_000, ": lists or keys are nested too deeply."),
        ("generator: {attention_sizes: &x [*x]}\n", ": lists or keys are nested too deeply."),
        ("#" * (1 << 20) + "\nrun: a\n", ": too large for a config file, more than 1.0 MiB."),
        (ALIASES, ": its aliases stand for more than 10,000 values. Write the values themselves."),
    ],
)
def test_load_config_rejects_bad_yaml(refusal, yaml_file, text, message):
    path = yaml_file(text)
    assert refusal("--config", path) == path + message


def test_load_config_rejects_yaml_that_contains_itself(refusal, yaml_file):
    assert "unknown key `training.training`" in refusal("--config", yaml_file("training: &x {training: *x}\n"))


def test_load_config_suggests_the_nearest_file(refusal, yaml_file):
    path = yaml_file("run: x\n", "cifar10.yaml")
    wrong = path.replace("cifar10", "cifar-10")
    assert refusal("--config", wrong) == f"{wrong}: no such config file. Did you mean `{path}`?"


def test_load_config_suggests_all_names_that_begin_alike(refusal):
    assert "Did you mean `imagenet128_authors_code`, `imagenet128_best_schedule`, `imagenet128_paper`?" in refusal(
        "--config", "imagenet128"
    )


def test_load_config_rejects_folder_as_file(refusal, tmp_path):
    assert refusal("--config", str(tmp_path)) == f"{tmp_path}: the config file cannot be read: Is a directory."


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("training.steps", "1e6", "a whole number"),
        ("training.steps", "64.0", "a whole number"),
        ("training.steps", "true", "a whole number"),
        ("training.steps", "null", "a whole number"),
        ("training.r1_weight", "much", "a number"),
        ("data.flip", "perhaps", "true or false"),
        ("data.flip", "1", "true or false"),
        ("data.conditional", "perhaps", "true or false or null"),
        ("hardware.replicas", "two", "a whole number or null"),
        ("training.loss", "hing", "one of hinge, non_saturating, wasserstein, least_squares, relativistic"),
        ("generator.attention_sizes", "8", "a list of whole numbers such as [8, 16]"),
        ("generator.attention_sizes", "[8.5]", "a list of whole numbers such as [8, 16]"),
        ("generator.attention_sizes", "null", "a list of whole numbers such as [8, 16]"),
        ("training.augmentation", "[tint]", "a list such as [color, translation], of color, translation, cutout"),
    ],
)
def test_load_config_rejects_wrong_type_in_plain_words(refusal, yaml_file, key, value, words):
    assert refusal(f"--{key}={value}") == f"command line: `{key}` must be {words}. Got {value!r}."
    section, name = key.split(".")
    path = yaml_file(f"# a comment\n{section}:\n  {name}: {value}\n")
    message = refusal("--config", path)
    assert message.startswith(f"{path}, line 3: `{key}` must be {words}. Got ")


def test_type_in_words_covers_every_config_field():
    for key, hint in field_types().items():
        words = type_in_words(hint)
        assert words and not set(words) & set("<>|'"), key


def help_of(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        load_config([*arguments], prog="sagan train")
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_load_config_help_shows_common_options_with_the_values_that_apply(capsys):
    default = QUICK_START.training.steps
    for arguments, steps in [([], default), (["--config", "cifar10"], 100_000), (["--training.steps", "7"], 7)]:
        text = help_of(capsys, *arguments, "--help")
        assert re.findall(r"^  --([a-z_]+(?:\.\w+)?) ", text, re.MULTILINE)[3:] == list(COMMON)
        assert f"Total number of generator steps. (default: {steps})" in " ".join(text.split())
        assert text.index("sagan train --config folder64") < text.index("--config NAME  ")
    with pytest.raises(UserError, match="--help takes `all` or nothing. Got `al`"):
        load_config(["--help", "al"])


def test_load_config_reads_packaged_config_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_name = load_config(["--config", "ablations/attention_8"])
    assert by_name == load_config(["--config", str(named_configs()["ablations/attention_8"])])
    assert by_name == load_config(["--config", "attention_8"]) and by_name.run == "runs/attention_8"
    (tmp_path / "cifar10").write_text("training: {steps: 3}")
    assert load_config(["--config", "cifar10"]).training.steps == 3  # a file comes first


@pytest.mark.parametrize("path", ["cifar-10", "CIFAR10.yaml", "configs/cifar10.yml", "cifar_10"])
def test_load_config_suggests_packaged_config_when_file_is_missing(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such config file. Did you mean `cifar10`?"):
        load_config(["--config", path])


def test_load_config_reads_value_that_begins_with_minus():
    assert load_config(["--evaluation.pixel_range", "-1,1"]).evaluation.pixel_range == "-1,1"


def test_configs_command_lists_packaged_configs_with_their_purpose(capsys):
    configs.main([])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(named_configs()) and len(lines) >= 22
    assert all(len(line.split()) > 5 for line in lines)


def test_load_config_help_lists_every_field(capsys):
    text = help_of(capsys, "--help", "all")
    assert "sagan train [--config NAME" in text
    assert "such as `train[:90%]`" in " ".join(text.split())
    for key in field_types():
        entry = " ".join(text.partition(f"  --{key} ")[2].split("\n  --")[0].split())
        words = entry.partition(" (default: ")[0].split()[1:]  # without the name of the value
        assert "default: " in entry and len(words) > 1, key


def test_load_config_print_config_reads_back(capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        load_config(["--training.steps", "7", "--print_config"])
    assert caught.value.code == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert read_config(tmp_path / "printed.yaml") == load_config(["--training.steps", "7"])


def test_load_config_print_config_rejects_bad_values(refusal):
    assert "at least 1" in refusal("--training.steps", "0", "--print_config")


@tries(60)
@given(
    key=st.sampled_from(sorted(field_types())),
    value=st.text(string.printable + "é\x85\u2028😀"),
)
def test_load_config_loads_or_rejects_any_flag_text(key, value):
    try:
        load_config([f"--{key}={value}"])
    except UserError as error:
        assert f"`{key}`" in str(error) or "quick start" in str(error)


@tries(60)
@given(content=st.binary(max_size=60) | st.text("training:seps[]{}&*!?-|>%@`'\"\n #1", max_size=60).map(str.encode))
def test_load_config_loads_or_rejects_any_bytes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_bytes(content)
    try:
        load_config(["--config", str(path)])
    except UserError as error:
        assert str(error).startswith(str(path))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    """A complete config as dict of dicts. Files hold one section each, because reading YAML is slow."""
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    save_config(QUICK_START, path)
    return {name: {name: values} for name, values in yaml.safe_load(path.read_text(encoding="utf-8")).items()}


@pytest.mark.parametrize("key", ["training.steps", "training.r1_weight", "training.seed", "data.memory_limit_gib"])
@pytest.mark.parametrize("number", [10**400, -(10**400)], ids=["great", "small"])
def test_load_config_rejects_number_of_400_digits(key, number):
    with pytest.raises(UserError, match=key):
        load_config([f"--{key}={number}"])


@tries(30)
@given(data=st.data())
def test_load_config_loads_or_rejects_file_with_replaced_value(sections, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    tree = sections[data.draw(st.sampled_from(sorted(sections)))]
    tree = replaced(tree, data.draw(st.sampled_from(list(places(tree)))), data.draw(VALUES))
    path.write_text(json.dumps(tree))  # JSON is YAML
    with one_line_or_none():
        load_config(["--config", str(path)])


@tries(20)
@given(data=st.data(), change=damage())
def test_load_config_loads_or_rejects_damaged_file(sections, tmp_path_factory, data, change):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    tree = sections[data.draw(st.sampled_from(sorted(sections)))]
    path.write_bytes(change(yaml.safe_dump(tree).encode()))
    with one_line_or_none():
        load_config(["--config", str(path)])


def test_load_config_error_is_one_line_when_a_name_has_a_newline(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text('attention: {"\\n": null}\n')
    with pytest.raises(UserError) as refused:
        read_config(path)
    assert "unknown key" in str(refused.value) and "\n" not in str(refused.value)
