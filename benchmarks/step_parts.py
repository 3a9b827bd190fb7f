"""Time of a training step and of its parts in isolation.

    python benchmarks/step_parts.py --image_size 128

Each part is a separate graph, measured interleaved; the parts do not add up to the step, which shares work between them
and runs them in parallel. On a busy machine, `--clock processor --threads 1` measures CPU time. Prints Markdown. Text:
docs/performance.md.
"""

import argparse
import os
import sys
from pathlib import Path

import keras
import tensorflow as tf
from reporting import describe_machine, markdown_table
from timing import CLOCKS, interleaved_medians, set_threads

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))
from ours import build, data  # noqa: E402

from sagan_tf.layers import spectral_normalizations  # noqa: E402
from sagan_tf.training.adam import FusedAdam  # noqa: E402
from sagan_tf.training.randomness import StepRandomness  # noqa: E402
from sagan_tf.training.step import discriminator_loss, generate, generator_loss  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--precision", default="float32", help="dtype policy (default float32)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    options = parser.parse_args()
    set_threads(options.threads)
    parts = {name: waiting(part) for name, part in parts_of(options).items()}
    times = interleaved_medians(parts, options.rounds, warm_up=1, clock=CLOCKS[options.clock])
    machine = describe_machine()
    print(
        f"{options.image_size} px, {options.channels} channels, batch {options.batch}, {options.precision}; "
        f"{machine['cpu']}, {options.threads} thread(s), {options.clock} time, TensorFlow {machine['tensorflow']}, "
        f"Keras {machine['keras']}; medians of {options.rounds} rounds\n"
    )
    step = times["whole step"]
    rows = [[name, f"{1e3 * seconds:.1f}", f"{seconds / step:.1%}"] for name, seconds in times.items()]
    print(markdown_table(["", "ms", "share of the step"], rows))


def waiting(function):
    """Wraps a function so that it waits for its tensors."""

    def call():
        for output in tf.nest.flatten(function()):
            if isinstance(output, tf.Tensor):
                output.numpy()

    return call


def parts_of(options):
    """name -> function without arguments."""
    spec = {**vars(options), "num_classes": options.classes, "latent_dim": 128,
            "attention_size": min(32, options.image_size // 2)}  # fmt: skip
    gan = build(spec, {"precision": options.precision})
    batches = iter(data(spec))
    train, (image, label) = gan.make_train_function(), next(batches)
    randomness, rows = StepRandomness(0, tf.constant(0)), options.batch
    d_weights, g_weights = gan.discriminator.trainable_variables, gan.generator.trainable_variables
    normalizations = [
        layer for network in (gan.discriminator, gan.generator) for layer in spectral_normalizations(network).values()
    ]

    def gradients(loss, weights):
        with tf.GradientTape() as tape:
            value = loss()
        return tape.gradient(value, [weight.value for weight in weights])

    def normalized():
        return [value for layer in normalizations for _, value in layer._normalized_weights()]

    kernels = [kernel for layer in normalizations for kernel in layer._kernels]
    parts = {
        "generator forward": lambda: generate(gan, rows, randomness, "x", label)[0],
        "discriminator loss and gradient, including a generator forward": lambda: gradients(
            lambda: discriminator_loss(gan, image, label, randomness, "x")[0], d_weights
        ),
        "generator loss and gradient": lambda: gradients(
            lambda: generator_loss(gan, image, label, randomness, "x")[0], g_weights
        ),
        "sigma of all kernels of both networks": lambda: [layer.sigma() for layer in normalizations],
        "kernels over sigma": normalized,
        "kernels over sigma and their gradient": lambda: gradients(
            lambda: tf.add_n([tf.reduce_sum(kernel) for kernel in normalized()]), kernels
        ),
        "EMA": lambda: gan._average.update(gan.step),
    }
    graphs = {name: tf.function(part, autograph=False) for name, part in parts.items()}
    adams = {"Adam of both networks": FusedAdam, "the same with Keras' Adam": keras.optimizers.Adam}
    graphs |= {name: adam_of(make, [d_weights, g_weights]) for name, make in adams.items()}
    return {"whole step": lambda: train(batches), **graphs}


def adam_of(make, groups):
    optimizers = [make(1e-9, beta_1=0.0, beta_2=0.9) for _ in groups]
    for optimizer, weights in zip(optimizers, groups):
        optimizer.build(weights)
    drawn = [[tf.random.stateless_normal(weight.shape, (0, 0)) for weight in weights] for weights in groups]

    @tf.function(autograph=False)
    def apply():
        for optimizer, gradients, weights in zip(optimizers, drawn, groups):
            optimizer.apply(gradients, weights)

    return apply


if __name__ == "__main__":
    main()
