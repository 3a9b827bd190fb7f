"""The memory estimate is a lower bound; a run that needs too much is rejected."""

import dataclasses

import pytest
from tiny_runs import tiny_config

from sagan_tf.config import QUICK_START
from sagan_tf.errors import UserError
from sagan_tf.experiment.build import build_networks
from sagan_tf.experiment.preflight import bytes_needed, warn_of_short_average
from sagan_tf.experiment.train import train


@pytest.mark.parametrize(("image_size", "initial_channels"), [(32, None), (64, None), (32, 1), (32, 1024)])
def test_bytes_needed_is_a_lower_bound_of_memory(image_size, initial_channels):
    data = dataclasses.replace(QUICK_START.data, image_size=image_size)
    network = dataclasses.replace(QUICK_START.generator, initial_channels=initial_channels)
    config = dataclasses.replace(QUICK_START, data=data, generator=network)
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
def test_train_rejects_run_that_needs_too_much_memory(tmp_path, field):
    with pytest.raises(UserError, match=f"^{field.replace('__', '.')}: the run needs at least .* of memory"):
        train(tiny_config(tmp_path / "run", **{field: 2**31 - 1}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "share"),
    [
        ({"steps": 2000, "ema_decay": 0.999}, "13.5%"),
        ({"steps": 16_000, "ema_decay": 0.999}, None),
        ({"steps": 2000, "ema_decay": 0.999, "ema_start_step": 1000}, None),
        ({"steps": 2000, "ema_decay": 0.999, "start_from": "runs/animals"}, None),  # the weights of an average
        ({"steps": 2000, "ema_decay": None}, None),
    ],
)
def test_train_warns_of_an_average_that_keeps_initial_weights(capsys, fields, share):
    warn_of_short_average(dataclasses.replace(QUICK_START.training, **fields))
    printed = capsys.readouterr().out
    assert f"{share} of the averaged generator" in printed if share else not printed
