"""Compares our SpectralNormalization with those of Keras and TensorFlow Addons: a table and a figure.

    python benchmarks/compare_spectral_normalization.py --figure docs/figures/spectral_normalization.png

Takes a minute on one core; the figure needs matplotlib (`pip install '.[figures]'`). TensorFlow Addons only runs on
old versions (Python 3.11, `pip install tensorflow==2.15.1 tensorflow-addons==0.23.0 'numpy<2'`); `--addons-python`
names such a Python, else it is omitted. Text: docs/spectral_normalization.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

SEEDS, RUNS = range(5), range(3)
STEPS, BATCH, WIDTH, LATENT = 400, 64, 64, 8
NAMES = {"ours": "sagan_tf", "keras": "Keras", "addons": "TF-Addons"}


def wrapper(name):
    """Returns the wrapper class under test, for layers of Keras 2 or 3."""
    if name == "ours":
        from sagan_tf.layers import SpectralNormalization

        return SpectralNormalization
    if name == "keras":
        return keras.layers.SpectralNormalization
    import tensorflow_addons

    return tensorflow_addons.layers.SpectralNormalization


# Gradient against finite differences, float64 ------------------------------------------------------------------------


def plain_layer(kind):
    layers = keras.layers
    return layers.Dense(6, dtype="float64") if kind == "Dense" else layers.Conv2D(4, 3, dtype="float64")


def loss_of(layer, x, **arguments):
    return tf.reduce_mean(tf.nn.softplus(-layer(x, **arguments)))  # a discriminator's non-saturating loss for real data


def exactly_normalized(kernel):
    return kernel / np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2)


def finite_differences(layer, x, kernel, step=1e-5):
    """dL/dW of the layer with kernel W / sigma(W), sigma by SVD, entry by entry."""
    gradient = np.zeros_like(kernel)
    for index in np.ndindex(*kernel.shape):
        for sign in (1, -1):
            moved = kernel.copy()
            moved[index] += sign * step
            layer.kernel.assign(exactly_normalized(moved))
            gradient[index] += sign * float(loss_of(layer, x)) / (2 * step)
    return gradient


def gradient_error(name, kind, seed):
    """|gradient - finite differences| / |finite differences| after the power iteration has converged."""
    rng = np.random.default_rng(seed)
    x = tf.constant(rng.normal(size=(5, 8) if kind == "Dense" else (2, 5, 5, 3)))
    layer = wrapper(name)(plain_layer(kind), dtype="float64")
    layer(x)
    layer.layer.kernel.assign(rng.normal(size=layer.layer.kernel.shape))
    for _ in range(500):
        layer(x, training=True)  # from here on sigma is exact, and overwriting a kernel with W / sigma changes nothing
    kernel = layer.layer.kernel.numpy()
    with tf.GradientTape() as tape:
        loss = loss_of(layer, x, training=True)
    gradient = tf.convert_to_tensor(tape.gradient(loss, layer.layer.trainable_weights)[0]).numpy()
    plain = plain_layer(kind)
    plain.build(x.shape)
    expected = finite_differences(plain, x, kernel)
    return float(np.linalg.norm(gradient - expected) / np.linalg.norm(expected))


# A small GAN: a ring of eight Gaussians, hinge loss, SAGAN's optimizers ----------------------------------------------


def network(sizes, seed, wrap=None):
    """An MLP with the same initial kernels for every wrapper; returns its layers and its function."""
    rng, layers = np.random.default_rng(seed), []
    for inputs, units in zip(sizes, sizes[1:]):
        plain = keras.layers.Dense(units)
        layers.append(wrap(plain) if wrap else plain)
        layers[-1].build((None, inputs))
        limit = np.sqrt(6 / (inputs + units))
        plain.kernel.assign(rng.uniform(-limit, limit, (inputs, units)))

    def call(x, **arguments):
        for layer in layers[:-1]:
            x = tf.nn.leaky_relu(layer(x, **arguments), 0.1)
        return layers[-1](x, **arguments)

    return layers, call


def real_batch(step):
    corner = tf.random.stateless_uniform([BATCH], [0, step], 0, 8, tf.int32)
    angle = 2 * np.pi * tf.cast(corner, "float32") / 8
    noise = tf.random.stateless_normal([BATCH, 2], [1, step], stddev=0.05)
    return 2 * tf.stack([tf.cos(angle), tf.sin(angle)], axis=1) + noise


def make_steps(generate, discriminate, variables):
    """Makes the discriminator step and the generator step, functions of the step number."""
    adam = [keras.optimizers.Adam(rate, beta_1=0.0, beta_2=0.9) for rate in (4e-4, 1e-4)]

    def fake_batch(step):
        return generate(tf.random.stateless_normal([BATCH, LATENT], [2, step]))

    @tf.function
    def discriminator_step(step):
        with tf.GradientTape() as tape:
            logit = discriminate(tf.concat([real_batch(step), fake_batch(step)], axis=0), training=True)
            loss = tf.reduce_mean(tf.nn.relu(1 - logit[:BATCH])) + tf.reduce_mean(tf.nn.relu(1 + logit[BATCH:]))
        return tape.gradient(loss, variables[0])

    @tf.function
    def generator_step(step):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(discriminate(fake_batch(step), training=True))
        return tape.gradient(loss, variables[1])

    return adam, discriminator_step, generator_step


def train(name, run):
    """Trains a GAN; records statistics of the discriminator's middle kernel at each step."""
    keras.utils.set_random_seed(run)
    d_layers, discriminate = network([2, WIDTH, WIDTH, 1], 2 * run, wrapper(name))
    g_layers, generate = network([LATENT, WIDTH, WIDTH, 2], 2 * run + 1)
    variables = [[weight for layer in group for weight in layer.trainable_weights] for group in (d_layers, g_layers)]
    (d_adam, g_adam), discriminator_step, generator_step = make_steps(generate, discriminate, variables)
    middle = d_layers[1]
    kernel = middle.layer.kernel
    index = next(i for i, weight in enumerate(variables[0]) if weight is kernel)
    record = {"norm": [], "alignment": [], "sigma": [], "rank": [], "generator_step": []}
    for step in range(run * STEPS, (run + 1) * STEPS):  # runs do not share data
        gradients = discriminator_step(tf.constant(step))
        g, w = gradients[index].numpy(), kernel.numpy()
        d_adam.apply_gradients(zip(gradients, variables[0]))
        used = middle(tf.eye(WIDTH), training=False) - middle(tf.zeros((1, WIDTH)), training=False)
        before = kernel.numpy()
        g_adam.apply_gradients(zip(generator_step(tf.constant(step)), variables[1]))
        record["norm"].append(np.linalg.norm(before))
        record["alignment"].append(abs(np.sum(g * w)) / np.linalg.norm(g) / np.linalg.norm(w))
        record["sigma"].append(np.linalg.norm(used, 2))
        record["rank"].append((np.linalg.norm(used) / np.linalg.norm(used, 2)) ** 2)
        record["generator_step"].append(np.linalg.norm(kernel.numpy() - before) / np.linalg.norm(before))
    return {key: [float(value) for value in values] for key, values in record.items()}


# Mixed precision ------------------------------------------------------------------------------------------------------


def rounded_share(name):
    """Share of float32 master weights rounded to bfloat16 by a training call; None if the layer fails."""
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        layer = wrapper(name)(keras.layers.Dense(64))
        layer(tf.ones((2, 64)), training=True)
        kernel = layer.layer.kernel.numpy()
    except (TypeError, ValueError, tf.errors.OpError):
        return None
    finally:
        keras.mixed_precision.set_global_policy("float32")
    return float(np.mean(kernel == tf.cast(tf.cast(kernel, "bfloat16"), "float32").numpy()))


def measure(name):
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "gradient_error": {kind: [gradient_error(name, kind, seed) for seed in SEEDS] for kind in ("Dense", "Conv2D")},
        "training": [train(name, run) for run in RUNS],
        "rounded_share": rounded_share(name),
    }


def measure_elsewhere(python, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        subprocess.run([python, __file__, "--only", name, "--json", path], check=True)
        return json.loads(path.read_text())


# Report ---------------------------------------------------------------------------------------------------------------


def over_runs(result, key, start=0):
    """(runs, steps)."""
    return np.array([run[key][start:] for run in result["training"]])


def ends(result, key):
    values = np.median(over_runs(result, key), axis=0)
    return f"{values[0]:.1f}, {values[-1]:.1f}"


ROWS = {
    "gradient error, Dense, median": lambda r: f"{np.median(r['gradient_error']['Dense']):.1g}",
    "gradient error, Conv2D, median": lambda r: f"{np.median(r['gradient_error']['Conv2D']):.1g}",
    "abs(cos(gradient, kernel)), median": lambda r: f"{np.median(over_runs(r, 'alignment')):.1g}",
    "norm of the stored kernel, first and last step": lambda r: ends(r, "norm"),
    "stable rank of the effective kernel, first and last step": lambda r: ends(r, "rank"),
    "its largest singular value after step 50, median": lambda r: f"{np.median(over_runs(r, 'sigma', 50)):.3f}",
    "the same, maximum": lambda r: f"{np.max(over_runs(r, 'sigma', 50)):.3f}",
    "change of D by a generator step, median": lambda r: f"{np.median(over_runs(r, 'generator_step')):.1%}",
    "master weights rounded to bfloat16": lambda r: f"{r['rounded_share']:.0%}",
    "TensorFlow, Keras": lambda r: f"{r['tensorflow']}, {r['keras']}",
}


def print_table(results):
    from reporting import markdown_table  # not needed in the Python of --addons-python

    rows = [[title, *map(value, results.values())] for title, value in ROWS.items()]
    print(markdown_table(["", *(NAMES[name] for name in results)], rows))


COLORS = {"ours": "#1b66b3", "keras": "#d9541e", "addons": "#222222"}
PANELS = {
    "alignment": ("Alignment of the gradient with the kernel", "|cos(gradient, kernel)|"),
    "rank": ("Stable rank of the kernel the network computes with", "(Frobenius norm / largest singular value)²"),
    "generator_step": ("Change of the discriminator by a generator step", "relative change of the kernel"),
}


def draw_errors(axes, results):
    for place, (name, result) in enumerate(results.items()):
        for kind, errors in enumerate(result["gradient_error"].values()):
            x = np.full(len(errors), kind + 0.25 * (place - 1))
            axes.scatter(x, errors, color=COLORS[name], marker="x" if name == "addons" else "o", s=28)
    axes.set_yscale("log")
    axes.set_ylim(1e-11, 10)
    axes.set_xticks([0, 1], ["Dense", "Conv2D"])
    axes.set_xlim(-0.6, 1.6)
    axes.set_title("Error of the gradient (float64)", loc="left")
    axes.set_ylabel("|g - finite differences| / |finite differences|")


def draw_curves(axes, results, key):
    for name, result in results.items():
        for curve in over_runs(result, key):
            axes.plot(curve, color=COLORS[name], linewidth=1.2, linestyle=":" if name == "addons" else "-")
    title, label = PANELS[key]
    axes.set_title(title, loc="left")
    axes.set_ylabel(label)
    axes.set_xlabel("training step")
    axes.set_ylim(bottom=-0.02 * axes.get_ylim()[1])


def draw(results, path):
    from reporting import load_pyplot

    pyplot = load_pyplot(**{"axes.grid": True, "grid.alpha": 0.25})
    from matplotlib.lines import Line2D

    figure, grid = pyplot.subplots(2, 2, figsize=(11, 7.4), layout="constrained")
    draw_errors(grid[0, 0], results)
    for axes, key in zip(grid.flat[1:], PANELS):
        draw_curves(axes, results, key)
    handles = [
        Line2D([], [], color=COLORS[name], linestyle=":" if name == "addons" else "-", linewidth=2.5)
        for name in results
    ]
    labels = [f"{NAMES[name]} (Keras {result['keras']})" for name, result in results.items()]
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=11)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, help="file for the chart")
    parser.add_argument("--addons-python", help="a Python with TensorFlow Addons")
    parser.add_argument("--only", choices=NAMES, help="measure one layer, without a figure")
    parser.add_argument("--json", type=Path, help="file for the measurements")
    arguments = parser.parse_args()
    if arguments.only:
        results = measure(arguments.only)
    else:
        results = {name: measure(name) for name in ("ours", "keras")}
        if arguments.addons_python:
            results["addons"] = measure_elsewhere(arguments.addons_python, "addons")
        print_table(results)
        if arguments.figure:
            draw(results, arguments.figure)
    if arguments.json:
        arguments.json.write_text(json.dumps(results))


if __name__ == "__main__":
    sys.exit(main())
