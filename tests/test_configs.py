"""The files in configs/: each loads and names its command; ablations differ from the paper as their names say."""

import inspect
import re
from pathlib import Path

import pytest

from sagan_tf.config import TrainingConfig, config_differences, load_config
from sagan_tf.training import SAGAN
from sagan_tf.training.step_options import STEP_OPTIONS

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "configs").rglob("*.yaml"))
HEADER_FIELDS = ("Command:", "Hardware:", "Expect:", "Paper:")


def load(name):
    return load_config(["--config", str(ROOT / "configs" / f"{name}.yaml")])


def header(file):
    return "".join(line for line in file.read_text().splitlines(True) if line.startswith("#"))


def test_config_files_exist():
    assert len(FILES) >= 22


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_config_file_loads_and_names_its_command(file):
    load_config(["--config", str(file)])
    text = header(file)
    assert [field for field in HEADER_FIELDS if f"# {field}" not in text] == []
    commands = re.findall(r"python -m sagan_tf\.train(?: --[^\n(]*)?", text)
    name = file.relative_to(ROOT / "configs").with_suffix("").as_posix()
    assert any(re.search(rf"--config {name}\b", command) for command in commands)
    assert load_config(["--config", name]) == load_config(["--config", str(file)])
    assert max(map(len, file.read_text().splitlines())) <= 120


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_config_file_header_flags_exist(file):
    """Every flag in a header is accepted, with its value if it has one."""
    for key, value in re.findall(r"--([a-z_]+\.[a-z_0-9]+)(?: ([0-9]+)\b)?", header(file)):
        value = value or ("true" if key == "data.download" else "x")
        load_config(["--config", str(file), f"--{key}={value}"])


def test_config_files_have_unique_runs():
    runs = [load_config(["--config", str(file)]).run for file in FILES]
    assert len(set(runs)) == len(runs)


def test_step_options_have_the_same_defaults_in_a_config_and_in_compile():
    arguments, config = inspect.signature(SAGAN.compile).parameters, TrainingConfig()
    assert {name: arguments[name].default for name in STEP_OPTIONS} == {n: getattr(config, n) for n in STEP_OPTIONS}


def both(attention):
    return {f"{network}.attention_sizes: [32] -> {attention}" for network in ("generator", "discriminator")} - {
        "generator.attention_sizes: [32] -> [32]",
        "discriminator.attention_sizes: [32] -> [32]",
    }


EQUAL_RATES = "discriminator_optimizer.learning_rate: 0.0004 -> 0.0001"
NO_SN_IN_G = "generator.spectral_normalization: true -> false"
RESIDUAL = "attention.block: self_attention -> residual"

ABLATIONS = {
    "attention_8": both("[8]"),
    "attention_16": both("[16]"),
    "attention_32": set(),
    "attention_64": both("[64]"),
    "attention_none": both("[]"),
    "residual_8": both("[8]") | {RESIDUAL},
    "residual_16": both("[16]") | {RESIDUAL},
    "residual_32": {RESIDUAL},
    "residual_64": both("[64]") | {RESIDUAL},
    "sn_discriminator_only": both("[]") | {NO_SN_IN_G, EQUAL_RATES},
    "sn_discriminator_only_ttur": both("[]") | {NO_SN_IN_G},
    "sn_both": both("[]") | {EQUAL_RATES},
    "sn_both_ttur": both("[]"),
    "sngan_projection": both("[]")
    | {
        NO_SN_IN_G,
        "generator.batch_normalization_momentum: 0.99 -> 0.9",
        "generator.batch_normalization_epsilon: 1e-05 -> 2e-05",
        "discriminator.hidden_channels: output -> input",
        "generator_optimizer.learning_rate: 0.0001 -> 0.0002",
        "generator_optimizer.schedule: constant -> linear",
        "generator_optimizer.decay_start_step: 0 -> 400000",
        "discriminator_optimizer.learning_rate: 0.0004 -> 0.0002",
        "discriminator_optimizer.schedule: constant -> linear",
        "discriminator_optimizer.decay_start_step: 0 -> 2000000",
        "training.steps: 1000000 -> 450000",
        "training.batch_size: 256 -> 64",
        "training.d_steps: 1 -> 5",
    },
}


def test_ablation_configs_are_all_listed():
    assert {file.stem for file in (ROOT / "configs" / "ablations").glob("*.yaml")} == set(ABLATIONS)


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablation_config_differs_from_the_paper_as_named(name):
    differences = config_differences(load("imagenet128_paper"), load(f"ablations/{name}"))
    assert set(differences) - {f"run: runs/imagenet128_paper -> runs/{name}"} == ABLATIONS[name]


def test_authors_code_config_differs_from_the_paper_as_in_its_header():
    differences = config_differences(load("imagenet128_paper"), load("imagenet128_authors_code"))
    assert set(differences) == {
        "run: runs/imagenet128_paper -> runs/imagenet128_authors_code",
        "generator.batch_normalization_momentum: 0.99 -> 0.999",
        "generator.batch_statistics: global -> local",
        "generator_optimizer.beta_2: 0.9 -> 0.999",
        "discriminator_optimizer.beta_2: 0.9 -> 0.999",
        "training.steps: 1000000 -> 2000000",
    }


def test_paper_config_has_the_optimizers_of_the_paper():
    """Zhang et al. 2019, section 5: Adam, betas 0 and 0.9, learning rates 4e-4 and 1e-4, as many updates of each."""
    config = load("imagenet128_paper")
    rates = config.generator_optimizer.learning_rate, config.discriminator_optimizer.learning_rate
    assert rates == (1e-4, 4e-4) and config.training.d_steps == 1 and config.training.loss == "hinge"
    for optimizer in (config.generator_optimizer, config.discriminator_optimizer):
        assert (optimizer.beta_1, optimizer.beta_2) == (0.0, 0.9)
