"""Compares networks, spectral normalization, attention, hinge losses and Adam with PyTorch's."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from parity import recipe
from parity.goldens import golden, relative_error
from sagan_tf.conversion.pytorch import convert_state_dict
from sagan_tf.errors import UserError
from sagan_tf.layers import SelfAttention, SpectralNormalization
from sagan_tf.networks import build_discriminator, build_generator
from sagan_tf.networks.named_weights import set_weights, weights_by_name
from sagan_tf.training import losses

BUILDERS = {"generator": build_generator, "discriminator": build_discriminator}
TORCH = "PyTorch 2.13.0"
PARTS = [(case, part) for case in recipe.TORCH for part in BUILDERS]


def state_dict(case, part):
    return dict(values_of(case, part))


@functools.cache
def values_of(case, part):
    """Shared by all tests: the vectors take an SVD each."""
    return recipe.torch_values(json.loads(str(golden(f"torch_{case}")[f"{part}_shapes"])))


def build_converted(state):
    converted = convert_state_dict(state)
    network = BUILDERS[converted.part](**converted.options)
    set_weights(network, converted.values, "test", converted.unused)
    return network, converted


@functools.cache
def converted_network(case, part):
    """One for all tests that do not change it."""
    return build_converted(state_dict(case, part))


def compute(network, case, part):
    """Our images or logits (B, ...), and PyTorch's."""
    inputs, key = recipe.torch_inputs(case), {"generator": "latent", "discriminator": "image"}[part]
    actual = network([ops.convert_to_tensor(inputs[key]), ops.convert_to_tensor(inputs["label"].astype("int32"))])
    return actual, golden(f"torch_{case}")[{"generator": "image", "discriminator": "logit"}[part]]


@pytest.mark.parametrize("case, part", PARTS)
def test_converted_network_matches_pytorch(case, part, agrees):
    network, converted = converted_network(case, part)
    assert (converted.layout, converted.part, converted.unused) == (recipe.TORCH[case]["layout"], part, ())
    actual, expected = compute(network, case, part)
    assert np.std(expected) > 0.05
    agrees(TORCH, f"{part} in {case}'s layout", actual, expected, 5e-6)


@pytest.mark.parametrize("case, part", PARTS)
def test_convert_state_dict_gives_arrays_or_one_line_when_a_tensor_is_missing(case, part):
    state = state_dict(case, part)
    for missing in state:
        try:
            converted = convert_state_dict({name: value for name, value in state.items() if name != missing})
        except UserError:
            continue
        assert all(isinstance(value, np.ndarray) for value in converted.values.values()), missing


# Published widths by image size, as multiples of the base width.
GENERATORS = {
    ("biggan_pytorch", 32): (4, 4, 4, 4),
    ("biggan_pytorch", 64): (16, 16, 8, 4, 2),
    ("biggan_pytorch", 128): (16, 16, 8, 4, 2, 1),
    ("biggan_pytorch", 256): (16, 16, 8, 8, 4, 2, 1),
    ("studiogan", 32): (4, 4, 4, 4),
    ("studiogan", 64): (16, 8, 4, 2, 1),
    ("studiogan", 128): (16, 16, 8, 4, 2, 1),
    ("studiogan", 256): (16, 16, 8, 8, 4, 2, 1),
}
DISCRIMINATORS = {
    ("biggan_pytorch", 32): (4, 4, 4, 4),
    ("studiogan", 32): (2, 2, 2, 2),
    **{(layout, 64): (1, 2, 4, 8, 16) for layout in ("biggan_pytorch", "studiogan")},
    **{(layout, 128): (1, 2, 4, 8, 16, 16) for layout in ("biggan_pytorch", "studiogan")},
    **{(layout, 256): (1, 2, 4, 8, 8, 16, 16) for layout in ("biggan_pytorch", "studiogan")},
}


@pytest.mark.slow
@pytest.mark.parametrize("layout, size", GENERATORS)
@pytest.mark.parametrize("part", BUILDERS)
def test_converted_network_of_every_size_and_attention_matches_pytorch(layout, size, part, agrees):
    """With attention at all sizes up to 64 px, or refused where another block than the first has the size."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from parity import torch_networks

    multiples = {"generator": GENERATORS, "discriminator": DISCRIMINATORS}[part][layout, size]
    widths = [8 * multiple for multiple in multiples]
    down = [i < (2 if size == 32 else len(widths) - 1) for i in range(len(widths))]

    def state_and_output(attention_after):
        if part == "generator":
            network, x = torch_networks.Generator(layout, widths, 7, 5, attention_after), recipe.normal("z", (2, 7))
        else:
            network = torch_networks.Discriminator(layout, widths, down, 5, attention_after)
            x = np.tanh(recipe.normal("x", (2, 3, size, size)))
        state = recipe.torch_values({name: list(value.shape) for name, value in network.state_dict().items()})
        network.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in state.items()})
        with torch.no_grad():
            output = network.eval()(torch.from_numpy(x), torch.tensor([3, 1])).numpy()
        return state, x, output

    if part == "generator":
        allowed, refused = [i for i in range(len(widths) - 1) if 8 * 2**i <= 64], []
    else:
        allowed = [i for i, halves in enumerate(down) if halves and size // 2 ** (i + 1) <= 64]
        refused = [i for i, halves in enumerate(down) if not halves]
    state, x, expected = state_and_output(allowed)
    x = x if part == "generator" else x.transpose(0, 2, 3, 1)
    actual = np.asarray(build_converted(state)[0]([ops.convert_to_tensor(x), ops.convert_to_tensor([3, 1])]))
    agrees(TORCH, f"{part}s of all sizes", actual.transpose(0, 3, 1, 2) if actual.ndim == 4 else actual, expected, 5e-6)
    for i in refused:
        with pytest.raises(UserError, match=f"attention after block {i + 1}"):
            convert_state_dict(state_and_output([i])[0])


def test_attention_after_a_later_block_of_the_same_size_is_refused():
    """`attn_d_loc: [3]` of StudioGAN at 32 px; its blocks have equal shapes."""
    order = {"0": "0", "2": "1", "3": "2", "1": "3", "4": "4"}  # Attention, module 1, behind the third block.
    state = {}
    for name, value in state_dict("studiogan", "discriminator").items():
        parts = name.split(".")
        state[".".join([parts[0], order[parts[1]], *parts[2:]]) if parts[0] == "blocks" else name] = value
    with pytest.raises(UserError, match="attention after block 3. .* only after the first block with maps of 8 px"):
        convert_state_dict(state)


def without_normalization(state, only=""):
    """The same network with W / sigma as its plain weights: of all layers, or of one."""
    plain = {}
    for name, value in state.items():
        module, last = name.rsplit(".", 1)
        u = state.get(f"{module}.u0", state.get(f"{module}.weight_u"))
        if u is None or only not in module:
            plain[name] = value
        elif last in ("weight", "weight_orig"):
            sigma = np.linalg.norm(u.reshape(-1).astype(np.float64) @ value.reshape(len(value), -1))
            plain[f"{module}.weight"] = (value / sigma).astype(np.float32)
        elif last == "bias":
            plain[name] = value
    return plain


@pytest.mark.parametrize(
    "case, part", [("studiogan", "generator"), ("studiogan", "discriminator"), ("biggan_pytorch", "generator")]
)
def test_network_without_spectral_normalization_converts_to_one_without(case, part):
    network, converted = build_converted(without_normalization(state_dict(case, part)))
    assert not converted.options["spectral_normalization"]
    assert relative_error(*compute(network, case, part)) < 5e-6
    with pytest.raises(UserError, match="spectral normalization in some layers only"):
        convert_state_dict(without_normalization(state_dict(case, part), only="blocks.0.0"))


def test_discriminator_of_parameters_only_is_normalized():
    """BigGAN-PyTorch has no other; u is a buffer."""
    state = {n: v for n, v in state_dict("biggan_pytorch", "discriminator").items() if not n.endswith(("u0", "sv0"))}
    network, converted = build_converted(state)
    assert converted.options["spectral_normalization"]
    assert relative_error(*compute(network, "biggan_pytorch", "discriminator")) < 5e-3  # u was found


def test_conversion_rejects_a_generator_with_another_initial_map():
    state = state_dict("biggan_pytorch", "generator")
    for name in ("linear.weight", "linear.bias", "linear.u0"):
        state[name] = np.repeat(state[name], 4, axis=int(name.endswith("u0")))
    with pytest.raises(UserError, match="first layer has 4096 outputs, expected 64 channels of 4x4 px"):
        convert_state_dict(state)


def test_conversion_rejects_a_class_table_without_its_vector():
    state = state_dict("studiogan", "generator")
    with pytest.raises(UserError, match="blocks.0.0.bn1.gain.weight_u is missing"):
        convert_state_dict({n: v for n, v in state.items() if n != "blocks.0.0.bn1.gain.weight_u"})
    with pytest.raises(UserError, match="blocks.0.0.bn1.gain has no sigma; its u or its weights are zero"):
        convert_state_dict(state | {"blocks.0.0.bn1.gain.weight_u": 0 * state["blocks.0.0.bn1.gain.weight_u"]})


@pytest.mark.parametrize("name", ["bias", "u"])
def test_conversion_rejects_a_first_layer_with_too_long_a_vector(name):
    state = state_dict("biggan_pytorch", "generator")
    theirs = {"bias": "linear.bias", "u": "linear.u0"}[name]
    state[theirs] = np.append(state[theirs], np.float32(1))
    with pytest.raises(UserError, match=rf"dense/{name} is \(1025,\), expected \(1024,\)"):
        build_converted(state)


def test_statistics_of_biggans_own_batch_normalization_are_read():
    """Its option `mybn` has them one module deeper."""
    state = state_dict("biggan_pytorch", "generator")
    deeper = {n.replace("stored_", "bn.stored_"): v for n, v in state.items()}
    deeper["blocks.0.0.bn1.bn.accumulation_counter"] = np.zeros(1)
    expected, actual = convert_state_dict(state), convert_state_dict(deeper)
    assert actual.unused == () and set(actual.values) == set(expected.values)


@pytest.mark.parametrize("case, part", PARTS)
def test_converted_network_sets_every_weight(case, part):
    network, converted = converted_network(case, part)
    assert set(converted.values) == set(weights_by_name(network))


def test_studiogan_discriminator_needs_activate_skip():
    converted = convert_state_dict(state_dict("studiogan", "discriminator"))
    network = build_discriminator(**{**converted.options, "activate_skip": False})
    set_weights(network, converted.values, "test")
    inputs = recipe.torch_inputs("studiogan")
    actual = network([ops.convert_to_tensor(inputs["image"]), ops.convert_to_tensor(inputs["label"].astype("int32"))])
    assert relative_error(actual, golden("torch_studiogan")["logit"]) > 0.05


def test_older_studiogan_embedding_tables_convert_to_same_network():
    """Its cBN had embeddings `embed0` and `embed1` (K, C) before it had linear layers (C, K)."""
    state = state_dict("studiogan", "generator")
    old = {}
    for name, value in state.items():
        for new, before in (("gain", "embed0"), ("bias", "embed1")):
            if f".{new}.weight" in name:
                name = name.replace(f".{new}.", f".{before}.")
                if name.endswith("weight_orig"):
                    value = value.T
                else:
                    other = name.replace("weight_u", "weight_v") if "weight_u" in name else name.replace("_v", "_u")
                    value = state[other.replace(before, new)]
        old[name] = value
    expected, actual = (convert_state_dict(s).values for s in (state, old))
    for name in expected:
        assert relative_error(actual[name], expected[name]) < 1e-6


@pytest.mark.parametrize("case, part", PARTS)
def test_conversion_names_tensors_of_wrong_shape(case, part):
    state = state_dict(case, part)
    network = build_converted(state)[0]
    converted = convert_state_dict({**state, "blocks.0.0.surprise.weight": np.zeros(3)})
    with pytest.raises(UserError, match="1 unexpected: blocks.0.0.surprise.weight"):
        set_weights(network, converted.values, case, converted.unused)
    name = next(name for name in state if name.endswith("bias") and state[name].ndim == 1)
    converted = convert_state_dict({n: v for n, v in state.items() if n != name})
    with pytest.raises(UserError, match="1 missing: .*bias"):
        set_weights(network, converted.values, case, converted.unused)
    wrapped = convert_state_dict({f"module.{n}": v for n, v in state.items()})
    assert wrapped.options == convert_state_dict(state).options
    with pytest.raises(UserError, match="contains no SAGAN"):
        convert_state_dict({"layer1.0.conv1.weight": np.zeros((4, 3, 3, 3))})
    with pytest.raises(UserError, match="shared embedding"):
        convert_state_dict({**state_dict("biggan_pytorch", "generator"), "shared.weight": np.zeros((5, 8))})
    first = next(name for name in state if ".0.0." in name and name.endswith(("conv2.weight", "conv2d2.weight_orig")))
    with pytest.raises(UserError, match="no architecture|of the wrong shape"):
        widened = convert_state_dict({**state, first: np.zeros((13, *state[first].shape[1:]), np.float32)})
        set_weights(network, widened.values, case, widened.unused)


@pytest.mark.parametrize("kind", ["dense", "conv"])
@pytest.mark.parametrize("name", recipe.SGD_ITERATIONS)
def test_spectral_normalization_matches_pytorch_over_20_sgd_steps(kind, name, agrees):
    make, x, target = recipe.sgd_cases()[kind]
    weight, bias, u = recipe.sgd_start(kind)
    plain = keras.layers.Dense(make[1]) if kind == "dense" else keras.layers.Conv2D(make[1], make[2])
    iterations = min(recipe.SGD_ITERATIONS[name], 75)  # as 300, of which each takes longer to trace than to run
    layer = SpectralNormalization(plain, power_iterations=iterations)
    x, target = (array if kind == "dense" else array.transpose(0, 2, 3, 1) for array in (x, target))
    layer.build(x.shape)
    plain.kernel.assign(to_keras_layout(weight))
    plain.bias.assign(bias)
    layer.vectors[0].assign(u / np.linalg.norm(u))
    data = {key.removeprefix(f"{kind}/{name}/"): value for key, value in golden("torch_spectral_norm").items()}

    @tf.function
    def output_and_gradients():
        with tf.GradientTape() as tape:
            output = layer(tf.constant(x), training=True)
            loss = tf.reduce_mean((output - target) ** 2)
        return output, tape.gradient(loss, [plain.kernel.value, plain.bias.value])

    for step in range(recipe.SGD_STEPS):
        output, gradients = output_and_gradients()
        if step in (0, recipe.SGD_STEPS - 1):
            expected = data[f"output_{step}"]
            expected = expected if kind == "dense" else expected.transpose(0, 2, 3, 1)
            agrees(TORCH, "spectral norm, 20 SGD steps: output", output, expected, 5e-6)
            expected = to_keras_layout(data[f"gradient_{step}"])
            agrees(TORCH, "spectral norm, 20 SGD steps: gradient", gradients[0], expected, 2e-5)
        for variable, gradient in zip((plain.kernel, plain.bias), gradients):
            variable.assign(variable - recipe.SGD_RATE * gradient)
    agrees(TORCH, "spectral norm, 20 SGD steps: kernel", plain.kernel, to_keras_layout(data["weight"]), 5e-6)


def to_keras_layout(weight):
    """Transposes a weight from PyTorch's to Keras' layout."""
    return weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T


@pytest.mark.parametrize("form", recipe.ATTENTION_FORMS)
def test_self_attention_matches_pytorch_in_published_forms(form, agrees):
    layer = SelfAttention(**recipe.ATTENTION_FORMS[form], spectral_normalization=False)
    layer.build(recipe.ATTENTION_SHAPE)
    named = {name.removeprefix(f"{layer.name}/"): weight for name, weight in weights_by_name(layer).items()}
    values = recipe.attention_weights(form)
    assert set(named) == set(values)
    for name, weight in named.items():
        weight.assign(values[name])
    x = tf.constant(recipe.attention_input())
    with tf.GradientTape() as tape:
        tape.watch(x)
        output, scores = layer(x, return_attention_scores=True)
        loss = tf.reduce_sum(output * recipe.attention_direction())
    actual = {"output": output, "scores": scores, "gradient": tape.gradient(loss, x)}
    for part, value in actual.items():
        agrees(TORCH, f"attention, three forms: {part}", value, golden("torch_attention")[f"{form}/{part}"], 2e-6)


def test_hinge_losses_and_gradients_match_pytorch(agrees):
    data, logits = golden("torch_hinge"), [tf.constant(value) for value in recipe.logits().values()]
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.hinge_discriminator_loss(*logits)
    agrees(TORCH, "hinge losses", loss, data["discriminator"], 1e-6)
    for actual, name in zip(tape.gradient(loss, logits), ("real_gradient", "fake_gradient")):
        np.testing.assert_allclose(actual, data[name], atol=1e-8)
    agrees(TORCH, "hinge losses", losses.hinge_generator_loss(logits[1]), data["generator"], 1e-6)


def test_adam_matches_pytorch_with_the_betas_of_the_paper(agrees):
    weight = keras.Variable(recipe.ema_value(0))
    optimizer = keras.optimizers.Adam(recipe.ADAM_RATE, beta_1=0.0, beta_2=0.9, epsilon=recipe.ADAM_EPSILON)
    for step in range(1, 51):
        optimizer.apply([tf.constant(recipe.ema_value(step))], [weight])
    # Keras adds epsilon before the bias correction of the second moment, PyTorch after it: 1e-7 of a gradient of 1.
    agrees(TORCH, "Adam, betas 0 and 0.9, 50 steps", weight, golden("torch_adam")["weight"], 1e-5)
