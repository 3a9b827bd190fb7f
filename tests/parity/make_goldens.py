"""Writes what TF-GAN and TensorFlow Addons compute in their own environment; `make parity` calls it.

    .venv-parity/bin/python tests/parity/make_goldens.py FOLDER

Inputs come from recipe.py, so goldens hold outputs only: TF-GAN 2.1.0's SAGAN (images, logits, attention scores,
gradients of every variable), its losses and its evaluation functions, and TensorFlow Addons 0.23.0's
SpectralNormalization and MovingAverage.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # Fewer differences between processors.

import numpy as np
import recipe
import tensorflow as tf
import tensorflow_addons as tfa
import tensorflow_gan as tfgan
from tensorflow_gan.examples.self_attention_estimator import discriminator as tf_gan_discriminator
from tensorflow_gan.examples.self_attention_estimator import generator as tf_gan_generator

tf1 = tf.compat.v1


def name_of(variable):
    return variable.op.name


def networks():
    """Runs both networks in one graph, in inference mode, with the variables of the recipe."""
    inputs = recipe.network_inputs()
    with tf.Graph().as_default(), tf1.Session() as session:
        image, g_variables = tf_gan_generator.generator(
            inputs["latent"], inputs["label"], recipe.CHANNELS, recipe.NUM_CLASSES, training=False
        )
        logit, d_variables = tf_gan_discriminator.discriminator(
            tf.constant(inputs["image"]), inputs["label"], recipe.CHANNELS, recipe.NUM_CLASSES
        )
        graph = tf1.get_default_graph()
        outputs = {"image": image, "logit": logit}
        for letter, network in (("g", "generator"), ("d", "discriminator")):
            scores = graph.get_tensor_by_name(f"{network}/{letter}_ops/Softmax:0")
            outputs[f"{letter}_scores"] = scores[:, :: recipe.QUERY_STRIDE]
        # Real and fake images are the same here, so the gradient is the sum of those of both terms.
        g_loss = tf.reduce_sum(image * inputs["direction"])
        d_loss = tf.reduce_mean(tf.nn.relu(1 - logit)) + tf.reduce_mean(tf.nn.relu(1 + 0.5 * logit))
        for loss, variables in ((g_loss, g_variables), (d_loss, d_variables)):
            gradients = map(tf.convert_to_tensor, tf.gradients(loss, variables))
            outputs |= {f"gradient/{name_of(v)}": gradient for v, gradient in zip(variables, gradients)}
        shapes = {name_of(v): v.shape.as_list() for v in tf1.global_variables()}
        values = recipe.network_values(shapes)
        session.run([v.assign(values[name_of(v)]) for v in tf1.global_variables()])
        # All in one run, since each run updates the discriminator's u.
        return session.run(outputs) | {"shapes": json.dumps(shapes)}


def losses():
    """Computes the losses that we also have, as means over the batch."""
    real, fake = recipe.logits().values()
    module = tfgan.losses.wargs
    pairs = {
        "hinge": (module.wasserstein_hinge_discriminator_loss, module.wasserstein_hinge_generator_loss),
        "wasserstein": (module.wasserstein_discriminator_loss, module.wasserstein_generator_loss),
        "least_squares": (module.least_squares_discriminator_loss, module.least_squares_generator_loss),
        "non_saturating": (module.modified_discriminator_loss, module.modified_generator_loss),
    }
    with tf.Graph().as_default(), tf1.Session() as session:
        outputs = {}
        for name, (d_loss, g_loss) in pairs.items():
            options = {"label_smoothing": 0.0} if name == "non_saturating" else {}
            outputs[f"{name}/discriminator"] = d_loss(tf.constant(real), tf.constant(fake), **options)
            outputs[f"{name}/generator"] = g_loss(tf.constant(fake))
        return session.run(outputs)


def evaluation():
    """Computes TF-GAN's metrics from features and logits."""
    module = tfgan.eval
    with tf.Graph().as_default(), tf1.Session() as session:
        first, second, class_logits = map(tf.constant, recipe.activations().values())
        kid, kid_error = module.kernel_classifier_distance_and_std_from_activations(first, second, max_block_size=90)
        one_block = module.kernel_classifier_distance_from_activations(first[:200], second[:200], max_block_size=1000)
        return session.run(
            {
                "frechet": module.frechet_classifier_distance_from_activations(first, second),
                "frechet_mean_only": module.mean_only_frechet_classifier_distance_from_activations(first, second),
                "frechet_diagonal": module.diagonal_only_frechet_classifier_distance_from_activations(first, second),
                "kernel": kid,
                "kernel_error": kid_error,
                "kernel_one_block": one_block,
                "classifier_score": module.classifier_score_from_logits(class_logits),
            }
        )


def addons_spectral_normalization():
    """Computes sigma, kernel and u of TensorFlow Addons' layer after 1, 3 and 20 power iterations."""
    results = {}
    for kind, shape in recipe.SPECTRAL_SHAPES.items():
        for iterations in (1, 3, 20):
            keras = tf.keras
            plain = keras.layers.Dense(shape[-1]) if kind == "dense" else keras.layers.Conv2D(shape[-1], shape[0])
            layer = tfa.layers.SpectralNormalization(plain, power_iterations=iterations)
            x = tf.zeros((1, shape[0]) if kind == "dense" else (1, 5, 5, shape[2]))
            layer(x)
            kernel = recipe.normal(f"spectral_{kind}", shape)
            layer.w.assign(kernel)
            layer.u.assign(recipe.normal(f"u_{kind}", (1, shape[-1])))
            layer(x, training=True)
            normalized = layer.w.numpy()
            results[f"{kind}/{iterations}/kernel"] = normalized
            results[f"{kind}/{iterations}/u"] = layer.u.numpy()[0]
            results[f"{kind}/{iterations}/sigma"] = np.linalg.norm(kernel) / np.linalg.norm(normalized)
    return results


def addons_gradient():
    """Computes the gradient of TensorFlow Addons' layer at a kernel that is already normalized."""
    kernel, x, direction = recipe.gradient_case()
    layer = tfa.layers.SpectralNormalization(tf.keras.layers.Dense(kernel.shape[1], use_bias=False))
    layer(x[:1])
    layer.w.assign(kernel)
    layer.u.assign(np.linalg.svd(kernel.astype(np.float64))[2][:1])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, training=True) * direction)
    return {"gradient": tape.gradient(loss, layer.w), "kernel": layer.w.numpy()}


def addons_moving_average():
    """Computes averages of TensorFlow Addons' MovingAverage."""
    variable = tf.Variable(recipe.ema_value(0))
    optimizer = tfa.optimizers.MovingAverage(
        tf.keras.optimizers.legacy.SGD(1.0), average_decay=recipe.EMA_DECAY, dynamic_decay=False
    )
    for step in range(1, recipe.EMA_STEPS + 1):
        # A step of SGD that results in the recipe's weights.
        optimizer.apply_gradients([(variable - recipe.ema_value(step), variable)])
    return {"average": optimizer.get_slot(variable, "average").numpy(), "last": variable.numpy()}


GOLDENS = {
    "tf_gan_networks": networks,
    "tf_gan_losses": losses,
    "tf_gan_evaluation": evaluation,
    "addons_spectral_normalization": addons_spectral_normalization,
    "addons_gradient": addons_gradient,
    "addons_moving_average": addons_moving_average,
}


def main(folder):
    os.makedirs(folder, exist_ok=True)
    for name, make in GOLDENS.items():
        values = {key: np.asarray(value) for key, value in make().items()}
        np.savez_compressed(os.path.join(folder, f"{name}.npz"), **values)
        print(f"{name}: {len(values)} arrays")


if __name__ == "__main__":
    main(sys.argv[1])
