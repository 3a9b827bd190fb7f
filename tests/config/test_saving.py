"""A saved config reads back equal; differences name the fields."""

import dataclasses

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sagan_tf.config import QUICK_START, OptimizerConfig, checks, config_differences, read_config, save_config
from sagan_tf.config.keys import field_types

FRACTIONS = st.floats(0, 1, exclude_max=True)
POSITIVE = st.floats(0, exclude_min=True, allow_infinity=False)
# Including text that YAML reads as another type if it is not quoted.
TEXT = st.one_of(
    st.sampled_from(["null", "~", "yes", "1e3", "0x1", "2024-01-01", "[a]", "{a: b}", "a: b", "# a", '"a"', " a "]),
    st.text(st.characters(blacklist_categories=("Cc", "Cs")), min_size=1).filter(str.strip),
)


@st.composite
def configs(draw):
    """Valid configs that vary in every type of field."""
    optimizer = st.builds(
        OptimizerConfig,
        learning_rate=POSITIVE,
        beta_1=FRACTIONS,
        beta_2=FRACTIONS,
        epsilon=POSITIVE,
        warmup_steps=st.integers(0, 10**6),
    )
    return dataclasses.replace(
        QUICK_START,
        run=draw(TEXT),
        data=dataclasses.replace(
            QUICK_START.data,
            name=draw(TEXT),
            flip=draw(st.booleans()),
            conditional=draw(st.sampled_from([None, True, False])),
        ),
        generator=dataclasses.replace(
            QUICK_START.generator, attention_sizes=tuple(draw(st.lists(st.sampled_from([8, 16, 32]), unique=True)))
        ),
        generator_optimizer=draw(optimizer),
        discriminator_optimizer=draw(optimizer),
        training=dataclasses.replace(
            QUICK_START.training,
            seed=draw(st.integers(0, 2**32 - 1)),
            ema_decay=draw(st.none() | FRACTIONS),
            augmentation=tuple(draw(st.lists(st.sampled_from(["color", "translation", "cutout"]), unique=True))),
            loss=draw(st.sampled_from(["hinge", "wasserstein"])),
        ),
    )


@settings(max_examples=60)
@given(config=configs())
def test_save_config_reads_back_equal(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    save_config(config, path)
    assert read_config(path) == config
    assert [file.name for file in path.parent.iterdir()] == ["config.yaml"]


def test_save_config_writes_every_field(tmp_path):
    save_config(QUICK_START, tmp_path / "config.yaml")
    tree = yaml.safe_load((tmp_path / "config.yaml").read_text())
    leaves = {f"{a}.{b}" for a, section in tree.items() if isinstance(section, dict) for b in section} | {"run"}
    assert leaves == set(field_types())


@settings(max_examples=30)
@given(old=configs(), new=configs())
def test_config_differences_lists_exactly_the_fields_that_differ(old, new):
    named = [line.partition(": ")[0] for line in config_differences(old, new)]
    after = dict(checks.flat_fields(new))
    assert named == [key for key, value in checks.flat_fields(old) if after[key] != value]
    assert config_differences(old, old) == []


def test_config_differences_writes_values_as_yaml():
    new = dataclasses.replace(
        QUICK_START,
        training=dataclasses.replace(QUICK_START.training, loss="wasserstein", ema_decay=None),
        generator=dataclasses.replace(QUICK_START.generator, attention_sizes=()),
    )
    assert config_differences(QUICK_START, new) == [
        "generator.attention_sizes: [8, 16] -> []",
        "training.loss: relativistic -> wasserstein",
        f"training.ema_decay: {QUICK_START.training.ema_decay} -> null",
    ]
