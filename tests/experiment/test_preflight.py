"""The memory that a config asks for: never more than the networks really take, and what is too much is never made."""

import dataclasses

import pytest
from tiny_runs import tiny_config

from sagan_tf.config import QUICK_START
from sagan_tf.errors import UserError
from sagan_tf.experiment.build import build_networks
from sagan_tf.experiment.preflight import bytes_needed
from sagan_tf.experiment.train import train


@pytest.mark.parametrize("image_size", [32, 64])
def test_weights_are_counted_from_below(image_size):
    config = dataclasses.replace(QUICK_START, data=dataclasses.replace(QUICK_START.data, image_size=image_size))
    needs = bytes_needed(config)
    generator, discriminator = build_networks(config, 4)
    for network, fields in (
        (generator, ("generator.channels", "generator.latent_dim")), (discriminator, ("discriminator.channels",)),
    ):  # fmt: skip
        really = 16 * network.count_params()
        assert really / 3 < sum(needs[field] for field in fields) <= really


@pytest.mark.parametrize(
    "field", ["generator__channels", "discriminator__channels", "generator__latent_dim", "training__batch_size"]
)
def test_what_no_machine_holds_is_refused_before_anything_is_made(tmp_path, field):
    with pytest.raises(UserError, match=f"^{field.replace('__', '.')}: the run needs at least .* of memory"):
        train(tiny_config(tmp_path / "run", **{field: 2**31 - 1}))
    assert not list(tmp_path.iterdir())
