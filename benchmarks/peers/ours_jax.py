"""A forward and backward pass of one of our networks on Keras' JAX backend: a contender of `backend_speed.py`.

    python benchmarks/peers/ours_jax.py '{"image_size": 128, ...}' precision=mixed_bfloat16 backward=generator

Needs no TensorFlow. The pass is one compiled function: gradients of all weights, and the new vectors u and moving
statistics. On a GPU where there is one, in float32 without TF32 unless `tf32` is given.
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else no memory is left for the other contenders

import jax
import keras
import numpy as np
from keras import ops
from turns import resident_mib, take_turns

from sagan_tf.networks import build_discriminator, build_generator


def main():
    imported = resident_mib("VmRSS")
    spec = json.loads(sys.argv[1])
    options = dict(part.partition("=")[::2] for part in sys.argv[2:])
    jax.config.update("jax_default_matmul_precision", "tensorfloat32" if "tf32" in options else "float32")
    keras.utils.set_random_seed(0)
    network = build(spec, options)
    device = jax.devices()[0]
    is_on_gpu = device.platform == "gpu"
    description = {
        "parameters": {options["backward"]: sum(weight.value.size for weight in network.trainable_variables)},
        "versions": {"jax": jax.__version__, "keras": keras.__version__},
        "gpu": device.device_kind if is_on_gpu else None,
    }
    peak = lambda: device.memory_stats()["peak_bytes_in_use"]  # noqa: E731
    take_turns(make_step(network, inputs(spec, options)), description, imported, gpu_peak=peak if is_on_gpu else None)


def build(spec, options):
    shared = dict(
        image_size=spec["image_size"], channels=spec["channels"], num_classes=spec["num_classes"],
        attention_sizes=(spec["attention_size"],), dtype=options.get("precision", "float32"),
    )  # fmt: skip
    if options["backward"] == "generator":
        return build_generator(latent_dim=spec["latent_dim"], **shared)
    return build_discriminator(**shared)


def inputs(spec, options):
    batch, size = spec["batch"], spec["image_size"]
    shape = (batch, spec["latent_dim"]) if options["backward"] == "generator" else (batch, size, size, 3)
    first = np.random.default_rng(0).normal(size=shape).astype("float32")
    return [jax.device_put(value) for value in (first, np.arange(batch, dtype="int32") % spec["num_classes"])]


def make_step(network, batch):
    def loss(trainable, state):
        outputs, state = network.stateless_call(trainable, state, batch, training=True)
        return ops.mean(ops.cast(outputs, "float32")), state

    differentiate = jax.jit(jax.value_and_grad(loss, has_aux=True), donate_argnums=1)
    groups = network.trainable_variables, network.non_trainable_variables
    trainable, state = ([variable.value for variable in group] for group in groups)

    def step():
        nonlocal state
        (_, state), _ = jax.block_until_ready(differentiate(trainable, state))

    return step


if __name__ == "__main__":
    main()
