"""Runs of toy networks, which the commands restore and trace once for the tests of a file."""

import pytest
from small_runs import once
from toy_networks import toy_networks as toy_networks

from sagan_tf.commands import attention_results, evaluate, sample
from sagan_tf.experiment.loading import restore_networks
from sagan_tf.files.hashing import sha256


@pytest.fixture(scope="module", autouse=True)
def shared_networks():
    """`restore_networks` of the same files and step gives the same networks, with the weights of the first time."""
    restored = {}

    def restore(run, step=None, discriminator=False, best=False):
        steps = run.checkpoint_steps()
        files = [*run.path.glob("*.keras"), *run.checkpoints_path.glob("ckpt-*")]
        newest = steps[-1] if discriminator and steps else None
        key = (*sorted((path.name, sha256(path)) for path in files), step or newest, discriminator, best)
        if key not in restored:
            networks = restore_networks(run, step, discriminator, best)
            restored[key] = networks, networks.generator.get_weights()
        networks, weights = restored[key]
        networks.generator.set_weights(weights)  # `sagan evaluate --standing` sets others
        return networks

    with pytest.MonkeyPatch.context() as patch:
        for module in (attention_results, evaluate, sample):
            patch.setattr(module, "restore_networks", restore)
        for module, name in ((sample, "fold_generator"), (sample, "Sampler"), (attention_results, "AttentionProbe")):
            patch.setattr(module, name, once(getattr(module, name)))
        yield
