"""Our training step as a contender of `training_speed.py`: the function that `fit` calls for a batch.

    python benchmarks/peers/ours.py '{"image_size": 128, "channels": 32, ...}' precision=mixed_bfloat16 share_fake_batch

Options: `precision=` (dtype policy), `share_fake_batch`, `native_operations`, `jit_compile`, `keras_adam` (Keras' Adam
instead of ours), `tf32` (on a GPU), `steps_per_execution=`, `inter=` (threads between operations).
`generator=saved_model`, `folded` or `predict` measures generator inference instead of a training step. The caller sets
environment variables.
"""

import json
import sys
import tempfile

import keras
import tensorflow as tf
from turns import resident_mib, take_turns

from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.training import SAGAN
from sagan_tf.training.adam import FusedAdam
from sagan_tf.training.memory import limit_arenas


def main():
    limit_arenas()  # as `python -m sagan_tf.train` does
    imported = resident_mib("VmRSS")
    spec = json.loads(sys.argv[1])
    options = dict(part.partition("=")[::2] for part in sys.argv[2:])
    tf.config.threading.set_intra_op_parallelism_threads(spec["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(int(options.get("inter", spec["threads"])))
    tf.config.experimental.enable_tensor_float_32_execution("tf32" in options)
    keras.utils.set_random_seed(0)
    if "generator" in options:
        generate(spec, options, imported)
        return
    gan, together = build(spec, options), int(options.get("steps_per_execution", 1))
    train, batches = gan.make_train_function(), iter(data(spec))

    def step():
        logs = train(batches)
        return [float(logs[name]) for name in ("d_loss", "g_loss")]  # waits for the step to finish

    networks = {"generator": gan.generator, "discriminator": gan.discriminator}
    counts = {name: sum(v.numpy().size for v in network.trainable_variables) for name, network in networks.items()}
    measure(step, counts, imported, steps_together=together)


def measure(step, parameters, imported, **description):
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    gpu, peak = None, None
    if gpus := tf.config.list_physical_devices("GPU"):
        gpu = tf.config.experimental.get_device_details(gpus[0])["device_name"]
        peak = lambda: tf.config.experimental.get_memory_info("GPU:0")["peak"]  # noqa: E731
    description |= {"parameters": parameters, "versions": versions, "gpu": gpu}
    take_turns(step, description, imported, gpu_peak=peak)


def generate(spec, options, imported):
    """Measures inference of a batch of images; see `generator_speed.py`."""
    from sagan_tf.export import export_saved_model, fold_generator

    generator = build(spec, options).generator
    latent = tf.random.stateless_normal((spec["batch"], spec["latent_dim"]), (0, 0))
    label = tf.range(spec["batch"]) % spec["num_classes"]
    folded = fold_generator(generator)
    with tempfile.TemporaryDirectory() as folder:
        # The folder may be deleted after loading; the object must stay alive.
        loaded = tf.saved_model.load(str(export_saved_model(folded, f"{folder}/generator", warm_up=False)))
    variants = {
        "saved_model": lambda: loaded.signatures["serving_default"](latent=latent, label=label)["image"].numpy(),
        "folded": lambda graph=tf.function(folded.model): graph([latent, label]).numpy(),
        "predict": lambda: generator.predict([latent, label], batch_size=spec["batch"], verbose=0),
    }
    counts = {"generator": sum(v.numpy().size for v in generator.trainable_variables)}
    measure(variants[options["generator"]], counts, imported)


def build(spec, options):
    shared = dict(
        image_size=spec["image_size"], channels=spec["channels"], num_classes=spec["num_classes"],
        attention_sizes=(spec["attention_size"],), dtype=options.get("precision", "float32"),
    )  # fmt: skip
    gan = SAGAN(build_generator(latent_dim=spec["latent_dim"], **shared), build_discriminator(**shared))
    adam = keras.optimizers.Adam if "keras_adam" in options else FusedAdam
    gan.compile(
        *(adam(rate, beta_1=0.0, beta_2=0.999, epsilon=1e-8) for rate in (1e-4, 4e-4)),
        share_fake_batch="share_fake_batch" in options,
        jit_compile="jit_compile" in options,
        native_operations="native_operations" in options,
        steps_per_execution=int(options.get("steps_per_execution", 1)),
    )
    return gan


def data(spec):
    """Repeats one batch forever, to exclude the input pipeline."""
    batch, size = spec["batch"], spec["image_size"]
    image = tf.random.stateless_uniform((batch, size, size, 3), (0, 0), -1.0, 1.0)
    label = tf.random.stateless_uniform((batch,), (0, 1), 0, spec["num_classes"], tf.int32)
    return tf.data.Dataset.from_tensors((image, label)).repeat()


if __name__ == "__main__":
    main()
