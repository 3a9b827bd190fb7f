"""Breaks the science of the code, one fault at a time, and lists which test notices it.

    python tests/stress/mutations.py                      # every fault
    python tests/stress/mutations.py "hinge sign" ema     # those whose name contains a word

For each fault: the end-to-end test, then the other tests up to the first that fails. Not part of the test suite:
it takes half an hour on two cores. Exits with code 1 if no test notices a fault.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
END_TO_END = "tests/test_learning.py"
OTHERS = ("layers", "networks", "training", "data", "generation", "parity", "experiment")

# Name of the fault: (file in sagan_tf, text, its replacement), each text once in the file.
MUTATIONS = {
    "no gradient through sigma": [
        ("layers/functional.py", " + outer_product(of_factor * gradient_of(kernel))", ""),
    ],
    "softmax over the wrong axis": [
        ("layers/self_attention.py", "_transpose(_full_precision(key))), axis=-1)",
         "_transpose(_full_precision(key))), axis=-2)"),
    ],
    "gamma frozen at 0": [
        ("layers/self_attention.py", "+ self.gamma * mixed", "+ ops.stop_gradient(1.0 * self.gamma) * mixed"),
    ],
    "hinge sign": [
        ("training/losses.py", "ops.relu(1.0 - real_logit)) + ops.mean(ops.relu(1.0 + fake_logit))",
         "ops.relu(1.0 + real_logit)) + ops.mean(ops.relu(1.0 - fake_logit))"),
    ],
    "learning rates swapped": [
        ("training/gan.py", "self.generator_optimizer = with_loss_scaling(keras.optimizers.get(generator_optimizer)",
         "self.generator_optimizer = with_loss_scaling(keras.optimizers.get(discriminator_optimizer)"),
        ("training/gan.py",
         "self.discriminator_optimizer = with_loss_scaling(keras.optimizers.get(discriminator_optimizer)",
         "self.discriminator_optimizer = with_loss_scaling(keras.optimizers.get(generator_optimizer)"),
    ],
    "EMA never updated": [
        ("training/ema.py", "1.0, 1.0 - self.decay)", "1.0, 0.0)"),
    ],
    "labels of real images shuffled": [
        ("training/step.py", "[real, fake], [label, fake_label]", "[real, fake], [ops.roll(label, 1), fake_label]"),
    ],
    "real and fake images in separate updates of u": [
        ("training/step.py",
         "logit = call_discriminator(gan.discriminator, ops.concatenate(images, axis=0), labels, training=True)",
         "parts = [None] * len(images) if labels is None else ops.split(labels, len(images))\n"
         "    logit = ops.concatenate([call_discriminator(gan.discriminator, *pair, training=True)"
         " for pair in zip(images, parts)])"),
    ],
    "latents reused": [
        ("training/randomness.py", "self.step = tf.cast(step, tf.int64)",
         "self.step = tf.zeros_like(tf.cast(step, tf.int64))"),
    ],
    "statistics of batch normalization frozen": [
        ("layers/batch_normalization.py", "mean, 1 - self.momentum", "mean, 0.0"),
        ("layers/batch_normalization.py", "variance, 1 - self.momentum", "variance, 0.0"),
    ],
}  # fmt: skip


def mutate(root, changes):
    for name, text, replacement in changes:
        path = root / "sagan_tf" / name
        source = path.read_text()
        if source.count(text) != 1:
            sys.exit(f"sagan_tf/{name}: `{text}` occurs {source.count(text)} times; it must occur once.")
        path.write_text(source.replace(text, replacement))


def first_failure(root, paths):
    """The id of the first test that fails, or None."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not stress", *paths]
    result = subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.PIPE, text=True
    )
    if result.returncode not in (0, 1):
        sys.exit(result.stdout)
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", result.stdout, re.MULTILINE)
    return found and found[1]


def main(words):
    chosen = {name: changes for name, changes in MUTATIONS.items() if not words or any(word in name for word in words)}
    if not chosen:
        print("There is no such fault; those are:", *MUTATIONS, sep="\n  ")
        return 2
    is_noticed = True
    for name, changes in chosen.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "tree"
            ignored = shutil.ignore_patterns(".*", "build", "dist", "__pycache__", "*.egg-info")
            shutil.copytree(ROOT, root, ignore=ignored)
            mutate(root, changes)
            package = changes[0][0].partition("/")[0]
            others = [f"tests/{name}" for name in sorted(OTHERS, key=lambda name: name != package)]
            failures = [first_failure(root, paths) for paths in ([END_TO_END], others)]
        is_noticed &= any(failures)
        print(name, *(f"  {failure or 'not noticed'}" for failure in failures), sep="\n", flush=True)
    return not is_noticed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
