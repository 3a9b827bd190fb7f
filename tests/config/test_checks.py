"""Ranges and contradictions of config values: rejected values, and accepted values at the limits."""

import math
import typing

import pytest

from sagan_tf.config import Config, ConfigError, DataConfig, TrainingConfig, load_config, ranges
from sagan_tf.config.keys import field_types

RECTANGLE = ("--data.image_height=64", "--data.image_width=96")
OUT_OF_RANGE = [
    ("training.steps", "0", "must be at least 1. Got 0."),
    ("training.steps", "2147483648", "must be at most 2147483647. Got 2147483648."),
    ("training.seed", "-1", "must be from 0 to 4294967295. Got -1."),
    ("training.seed", "4294967296", "must be from 0 to 4294967295. Got 4294967296."),
    ("training.ema_decay", "1", "must be at least 0 and below 1. Got 1.0."),
    ("training.r1_weight", ".nan", "must be at least 0. Got nan."),
    ("training.r1_weight", ".inf", "must be at least 0. Got inf."),
    ("generator_optimizer.learning_rate", "0", "must be above 0. Got 0.0."),
    ("discriminator_optimizer.beta_1", "-0.1", "must be at least 0 and below 1. Got -0.1."),
    (
        "data.image_size",
        "50",
        "must have a smaller side of 3 to 7 times 8, 16, 32 or 64 px and a larger side that is a multiple of the "
        "same number, at most 1,024 px; the nearest sizes are 48 or 56 px. Got 50.",
    ),
    ("data.image_channels", "0", "must be 1 or 3. Got 0."),
    ("data.image_channels", "2", "must be 1 or 3. Got 2."),
    ("output.sample_rows", "257", "must be from 1 to 256. Got 257."),
    ("data.name", "", "is empty."),
    ("data.split", " ", "is empty."),
    ("training.augmentation", "[color,color]", "lists a value twice. Got ['color', 'color']."),
    (
        "generator.attention_sizes",
        "[64]",
        "must be among the generator's feature maps, 4, 8, 16, 32 px for 32 px images. Got 64.",
    ),
    (
        "discriminator.attention_sizes",
        "[32]",
        "must be among the discriminator's feature maps, 8, 16 px for 32 px images. Got 32.",
    ),
    (
        "attention.key_reduction",
        "65",
        "must be at most 64, the channels of the generator's 8 px feature map (more with a larger "
        "`generator.channels`). Got 65.",
    ),
    ("attention.pool_size", "3", "must divide the size of the generator's 8 px feature map. Got 3."),
    ("output.checkpoint_interval", "75", "must be a multiple of output.log_interval, 50. Got 75."),
]


def test_load_config_takes_first_map_with_its_initial_channels(refusal):
    flags = ["--generator.attention_sizes", "[4]", "--attention.key_reduction", "8"]
    load_config([*flags, "--generator.channels", "1", "--generator.initial_channels", "512"])
    assert refusal(*flags, "--generator.initial_channels", "4") == (
        "command line: `attention.key_reduction` must be at most 4, the channels of the generator's 4 px feature map "
        "(more with a larger `generator.initial_channels`). Got 8."
    )


@pytest.mark.parametrize(("key", "value", "message"), OUT_OF_RANGE)
def test_load_config_rejects_flag_out_of_range(refusal, key, value, message):
    assert refusal(f"--{key}={value}") == f"command line: `{key}` {message}"


def test_load_config_rejects_value_out_of_range_with_its_line(refusal, yaml_file):
    path = yaml_file("training:\n  batch_size: 0\n")
    assert refusal("--config", path) == f"{path}, line 2: `training.batch_size` must be at least 1. Got 0."


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--attention.output_projection", "false", "--attention.value_reduction", "2"],
            "`attention.value_reduction` must be 1 when",
        ),
        (["--hardware.replicas", "3"], "`training.batch_size` must be a multiple of hardware.replicas, 3. Got 32."),
        (["--hardware.replicas", "2", "--hardware.distribution", "single"], "`hardware.replicas` must be 1 or null"),
        (["--hardware.distribution", "mirrored", "--hardware.jit_compile"], "Set generator.batch_statistics to local"),
        (["--hardware.distribution", "tpu", "--hardware.jit_compile"], "`hardware.jit_compile` must be auto or false"),
        (["--hardware.distribution", "tpu", "--hardware.replicas", "8"], "`hardware.replicas` must be null"),
        (
            ["--hardware.replicas", "2", "--hardware.jit_compile"],
            "`hardware.jit_compile` must be auto or false on several",
        ),
        (["--data.image_width", "96"], "`data.image_width` must come with `data.image_height`."),
        (
            ["--data.image_height", "60", "--data.image_width", "90"],
            "`data.image_height` must have a smaller side of 3 to 7 times",
        ),
        (
            [*RECTANGLE, "--generator.attention_sizes=[96]"],
            "`generator.attention_sizes` must be among the generator's feature maps, 4, 8, 16, 32, 64 px for 64x96 px",
        ),
        (
            [*RECTANGLE, "--generator.attention_sizes=[4]", "--attention.pool_size=4"],
            "`attention.pool_size` must divide the size of the generator's 4x6 px feature map. Got 4.",
        ),
        (
            ["--data.image_size", "128", "--output.sample_rows", "256", "--output.sample_columns", "256"],
            "`output.sample_columns` makes an image of 1074 megapixels with 256 rows of 128 px; at most 67",
        ),
        (
            ["--hardware.native_operations", "--hardware.precision=float32"],
            "`hardware.native_operations` must be false in float32",
        ),
        (
            ["--hardware.native_operations", "--hardware.precision=mixed_bfloat16", "--hardware.jit_compile"],
            "`hardware.native_operations` must be false when hardware.jit_compile is true",
        ),
        (
            ["--hardware.native_operations", "--hardware.precision=mixed_bfloat16", "--hardware.replicas=2"],
            "`hardware.native_operations` must be false on several replicas",
        ),
        (
            ["--training.share_fake_batch", "true", "--training.accumulation_steps", "2"],
            "`training.share_fake_batch` must be false when training.accumulation_steps, 2, is above 1.",
        ),
        (
            ["--training.ada_target=0.6"],
            "`training.augmentation` must be [] when training.ada_target, 0.6, is above 0: ADA takes its place. "
            "Got ['color'].",
        ),
        (
            ["--training.ada_target=0.6", "--training.augmentation=[]", "--training.loss=relativistic"],
            "`training.ada_target` must be 0 with the loss relativistic, which does not separate the logits at 0 as",
        ),
        (["--training.new_classes=random"], "`training.new_classes` must be mean without training.start_from."),
        (["--hardware.steps_per_execution", "7"], "must be a multiple of hardware.steps_per_execution, 7."),
        (
            ["--generator_optimizer.schedule=cosine", "--generator_optimizer.final_learning_rate=1"],
            "`generator_optimizer.final_learning_rate` must be at most the learning rate, 0.001. Got 1.0.",
        ),
    ],
)
def test_load_config_rejects_contradiction_between_fields(refusal, argv, message):
    assert message in refusal(*argv)


@pytest.mark.parametrize(
    "argv",
    [
        ["--attention.output_projection", "false", "--attention.value_reduction", "1"],
        ["--hardware.replicas", "4", "--hardware.distribution", "mirrored"],
        ["--hardware.jit_compile", "--hardware.distribution", "single"],
        ["--hardware.jit_compile", "--hardware.replicas", "2", "--generator.batch_statistics", "local"],
        ["--hardware.native_operations", "--hardware.precision=mixed_bfloat16"],
        ["--hardware.native_operations", "--hardware.precision=auto"],
        ["--hardware.steps_per_execution", "50"],
        ["--generator_optimizer.schedule=linear", "--generator_optimizer.decay_start_step=5000"],
        # The discriminator makes d_steps times as many optimizer steps.
        "--training.d_steps=5 --discriminator_optimizer.schedule=linear".split()
        + ["--discriminator_optimizer.decay_start_step=7499"],
        ["--attention.block", "residual", "--attention.key_reduction", "65", "--attention.pool_size", "3"],
        ["--attention.key_reduction", "32"],
        ["--training.ada_target=0.6", "--training.augmentation=[]", "--training.loss=non_saturating"],
        ["--generator.attention_sizes=[4,8,16,32]", "--discriminator.attention_sizes=[8,16]"],
    ],
)
def test_load_config_accepts_values_next_to_a_contradiction(argv):
    load_config(argv)


def test_config_rejects_bad_values_when_made_in_python():
    with pytest.raises(ConfigError, match="`training.batch_size` must be at least 1. Got -1."):
        Config(training=TrainingConfig(batch_size=-1))
    with pytest.raises(ConfigError, match="control character"):
        Config(data=DataConfig(name="a\0b"))


def test_config_ranges_cover_every_number():
    numbers = {key for key, hint in field_types().items() if {int, float} & {hint, *typing.get_args(hint)}}
    assert numbers == set(ranges.RANGES)


def test_config_ranges_exclude_nan():
    for key, (_, allowed) in ranges.RANGES.items():
        assert not allowed(math.nan), key
