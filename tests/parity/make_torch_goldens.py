"""Writes what PyTorch (any 2.x, CPU) computes; needs no TensorFlow.

    python tests/parity/make_torch_goldens.py FOLDER

Networks in the layouts of BigGAN-PyTorch, StudioGAN, mmagic and heykeetae, spectral_norm over 20 steps of SGD, the
attention block in its three published forms, hinge losses, and Adam with betas (0, 0.9). Inputs come from recipe.py.
"""

import functools
import json
import os
import sys

import numpy as np
import recipe
import torch
import torch_heykeetae
import torch_mmagic
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm
from torch_networks import Discriminator, Generator

torch.set_num_threads(1)


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array))


def networks(name):
    """Computes image, logit and the shapes of both state dicts."""
    case, inputs = recipe.TORCH[name], recipe.torch_inputs(name)
    layout = case["layout"]
    label = tensor(inputs["label"])
    generator = Generator(layout, latent_dim=recipe.LATENT_DIM, num_classes=recipe.NUM_CLASSES, **case["generator"])
    discriminator = Discriminator(layout, num_classes=recipe.NUM_CLASSES, **case["discriminator"])
    results = {}
    for part, network in (("generator", generator), ("discriminator", discriminator)):
        results[f"{part}_shapes"] = fill(network)
    with torch.no_grad():
        image = generator(tensor(inputs["latent"]), label)
        logit = discriminator(tensor(inputs["image"].transpose(0, 3, 1, 2)), label)
    return results | {"image": image.permute(0, 2, 3, 1), "logit": logit}


def fill(network):
    """Sets the values of recipe.py for evaluation; returns the shapes of the state dict, JSON."""
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict({name: tensor(value) for name, value in recipe.torch_values(shapes).items()})
    network.eval()
    return json.dumps(shapes)


def mmagic():
    """Computes images of its default config and of that with BigGAN's schedule, and logits without and with ReLUs in
    place: networks that state dicts alone do not tell apart."""
    inputs, sizes, results = recipe.torch_inputs("mmagic"), (recipe.MMAGIC_CHANNELS, recipe.LATENT_DIM), {}
    latent, label = tensor(inputs["latent"]), tensor(inputs["label"])
    image = tensor(inputs["image"].transpose(0, 3, 1, 2))
    with torch.no_grad():
        for config, (normalized, epsilon) in {"default": (True, 1e-4), "biggan": (False, 1e-5)}.items():
            network = torch_mmagic.Generator(*sizes, recipe.NUM_CLASSES, normalized, epsilon)
            results[f"{config}_shapes"] = fill(network)
            results[f"{config}_image"] = network(latent, label).permute(0, 2, 3, 1)
        for in_place in (False, True):
            network = torch_mmagic.Discriminator(recipe.MMAGIC_CHANNELS, recipe.NUM_CLASSES, in_place)
            results["discriminator_shapes"] = fill(network)
            results[f"logit_in_place_{in_place}"] = network(image, label)
    return results


def heykeetae():
    """Computes images and the attention maps of both layers of a generator."""
    network = torch_heykeetae.Generator(recipe.LATENT_DIM, recipe.HEYKEETAE_CHANNELS)
    shapes = fill(network)
    with torch.no_grad():
        image, *maps = network(tensor(recipe.torch_inputs("heykeetae")["latent"]))
    discriminator = {name: list(value.shape) for name, value in torch_heykeetae.Discriminator(2).state_dict().items()}
    return {
        "shapes": shapes, "image": image.permute(0, 2, 3, 1), "map_16": maps[0][:, ::32], "map_32": maps[1][:, ::128],
        "discriminator_shapes": json.dumps(discriminator),
    }  # fmt: skip


def spectral_norm_steps():
    """Trains dense and convolution layers by SGD: outputs and gradients, first and last, and the final weights.

    `parametrizations.spectral_norm` starts an iteration from v and ours from u, half an iteration apart, so both run to
    convergence there; the older `spectral_norm` starts from u and must agree at one iteration per call.
    """
    results = {}
    for kind, (make, x, target) in recipe.sgd_cases().items():
        for name, iterations in recipe.SGD_ITERATIONS.items():
            layer = torch.nn.Linear(*make) if kind == "dense" else torch.nn.Conv2d(*make)
            weight, bias, u = map(tensor, recipe.sgd_start(kind))
            layer.weight.data, layer.bias.data = weight, bias
            if name == "parametrization":
                layer = parametrizations.spectral_norm(layer, n_power_iterations=iterations, eps=1e-12)
                raw = layer.parametrizations.weight.original
            else:
                layer = spectral_norm(layer, n_power_iterations=iterations, eps=1e-12)
                layer.weight_u.copy_(u / u.norm())
                raw = layer.weight_orig
            optimizer = torch.optim.SGD(layer.parameters(), lr=recipe.SGD_RATE)
            for step in range(recipe.SGD_STEPS):
                optimizer.zero_grad()
                output = layer(tensor(x))
                ((output - tensor(target)) ** 2).mean().backward()
                if step in (0, recipe.SGD_STEPS - 1):
                    results |= {
                        f"{kind}/{name}/output_{step}": output.detach().clone(),
                        f"{kind}/{name}/gradient_{step}": raw.grad.clone(),
                    }
                optimizer.step()
            results[f"{kind}/{name}/weight"] = raw
    return results


def attention_forms():
    """Computes output, scores and the gradient of the input for the three published forms."""
    results = {}
    for form, options in recipe.ATTENTION_FORMS.items():
        weights = {name: tensor(value) for name, value in recipe.attention_weights(form).items()}
        x = tensor(recipe.attention_input().transpose(0, 3, 1, 2)).requires_grad_()

        def convolve(y, name):
            kernel = weights[f"{name}/kernel"].permute(3, 2, 0, 1)
            return F.conv2d(y, kernel, weights.get(f"{name}/bias"))

        pool = options["pool_size"]
        query, key, value = convolve(x, "query"), convolve(x, "key"), convolve(x, "value")
        if pool > 1:
            key, value = F.max_pool2d(key, pool), F.max_pool2d(value, pool)
        scores = torch.einsum("bcn,bcm->bnm", query.flatten(2), key.flatten(2)).softmax(-1)
        mixed = torch.einsum("bnm,bcm->bcn", scores, value.flatten(2)).unflatten(2, x.shape[2:])
        mixed = convolve(mixed, "projection") if options["output_projection"] else mixed
        output = x + weights["gamma"] * mixed
        (output * tensor(recipe.attention_direction().transpose(0, 3, 1, 2))).sum().backward()
        results |= {
            f"{form}/output": output.permute(0, 2, 3, 1),
            f"{form}/scores": scores,
            f"{form}/gradient": x.grad.permute(0, 2, 3, 1),
        }
    return results


def hinge_losses():
    """Computes the hinge losses and their gradients."""
    logits = {name: tensor(value).requires_grad_() for name, value in recipe.logits().items()}
    d_loss = F.relu(1 - logits["real"]).mean() + F.relu(1 + logits["fake"]).mean()
    gradients = torch.autograd.grad(d_loss, list(logits.values()))
    return {
        "discriminator": d_loss,
        "generator": -logits["fake"].mean(),
        "real_gradient": gradients[0],
        "fake_gradient": gradients[1],
    }


def adam_steps():
    """Computes weights after 50 steps of Adam with the paper's betas and given gradients."""
    weight = torch.nn.Parameter(tensor(recipe.ema_value(0)))
    optimizer = torch.optim.Adam([weight], lr=recipe.ADAM_RATE, betas=(0.0, 0.9), eps=recipe.ADAM_EPSILON)
    for step in range(1, 51):
        weight.grad = tensor(recipe.ema_value(step))
        optimizer.step()
    return {"weight": weight}


GOLDENS = {
    **{f"torch_{name}": functools.partial(networks, name) for name in recipe.TORCH},
    "torch_mmagic": mmagic,
    "torch_heykeetae": heykeetae,
    "torch_spectral_norm": spectral_norm_steps,
    "torch_attention": attention_forms,
    "torch_hinge": hinge_losses,
    "torch_adam": adam_steps,
}


def main(folder):
    os.makedirs(folder, exist_ok=True)
    for name, make in GOLDENS.items():
        values = {
            key: value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
            for key, value in make().items()
        }
        np.savez_compressed(os.path.join(folder, f"{name}.npz"), **values)
        print(f"{name}: {len(values)} arrays")


if __name__ == "__main__":
    main(sys.argv[1])
