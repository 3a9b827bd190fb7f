"""Spectral normalization of the kernel of any Keras layer."""

import contextlib
import contextvars
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from sagan_tf.errors import check_positive_int
from sagan_tf.layers import functional
from sagan_tf.layers.keras_compat import RecordingScope, child_layers, dequantize, owner_of, turn_off_remat

# Weights that are linear maps, by the names Keras gives them.
KERNEL_NAMES = ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel", "embeddings")
_QUANTIZATIONS = (None, "int8", "float8")
# Of `normalized_together`: lists of estimates by the id of the layer.
_estimates = contextvars.ContextVar("estimates", default={})


@keras.saving.register_keras_serializable(package="sagan_tf")
class SpectralNormalization(keras.layers.Wrapper):
    """Divides a layer's kernel by its largest singular value, inside the forward pass.

    The wrapped layer keeps its raw kernel W and computes with W / sigma(W). Each call makes one power iteration for the
    first singular vectors, starting from the stored u:

        v = W^T u / |W^T u|,    u' = W v / |W v|,    sigma = u'^T W v

    A training call stores u' for the next one. An inference call, or one of a frozen layer (`trainable` is False),
    computes the same and stores nothing, so its output does not depend on how often the layer was used. u and v are
    constants for the gradient, which flows through W and through sigma (Miyato et al. 2018, equation 12):

        dL/dW = (G - <G, W / sigma> u' v^T) / sigma,    G = dL/d(W / sigma)

    so it is orthogonal to W. (Keras' and TensorFlow Addons' layers of this name overwrite the kernel with W / sigma
    and train on G.)

    W is the kernel as a matrix of (outputs, the rest), as in the paper: transposed convolutions by their output
    channels, depthwise convolutions by input channel times multiplier, embeddings by their rows. sigma is computed in
    float32 (on TensorFlow float64 for a float64 layer) under any dtype policy. A kernel whose sigma is not above
    `epsilon`, such as one of zeros, is used as it is. After Keras' `quantize("int8")` or `quantize("float8")`, W is the
    quantized kernel.

    Args:
        layer: Keras layer of one input with a `kernel` or `embeddings` (Dense, Conv1D to 3D, transposed, depthwise and
            separable convolutions, Embedding, EinsumDense, LSTM, Bidirectional ...); each such weight is normalized on
            its own. It keeps its activations under `keras.RematScope`. Create layers and models around it outside of
            the scope: recomputing them would run further power iterations.
        power_iterations: int >= 1. Power iterations per call.
        epsilon: float > 0. Added to the norms that u and v are divided by. A smaller sigma is not divided by.

    Call arguments:
        inputs: What the layer takes.
        training: bool. True stores the new u.

    Returns:
        What the layer returns.

    Raises:
        ValueError: The layer has no kernel or embeddings, or has LoRA weights, which are not normalized; a dtype is
            given, which is the layer's; `power_iterations` or `epsilon` is out of range.

    Example:
        >>> layer = SpectralNormalization(keras.layers.Dense(4))
        >>> tuple(layer(keras.ops.ones((2, 3)), training=True).shape)
        (2, 4)

    Source: Miyato et al. 2018, algorithm 1, https://arxiv.org/abs/1802.05957.
    """

    def __init__(self, layer: keras.Layer, power_iterations: int = 1, epsilon: float = 1e-12, **kwargs: Any):
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be > 0. Received: {epsilon=}.")
        if given := {"dtype", "autocast"} & kwargs.keys():
            raise ValueError(f"`{min(given)}` is that of the wrapped layer: set it there. Received: {kwargs}.")
        # The wrapped layer has its own policy. Without autocast, the raw weights are read in full precision.
        kwargs.update(dtype=getattr(layer, "variable_dtype", None), autocast=False)
        super().__init__(layer, **kwargs)
        turn_off_remat(self)
        self.power_iterations = check_positive_int("power_iterations", power_iterations)
        self.epsilon = epsilon
        self.supports_masking = layer.supports_masking

    def build(self, input_shape=None):
        super().build(input_shape)
        kernels = self._kernels
        if not kernels:
            raise ValueError(
                "`SpectralNormalization` needs a layer with a kernel or embeddings. "
                f"Received: layer={self.layer.name} ({type(self.layer).__name__}) "
                f"with weights {[weight.name for weight in self.layer.weights]}."
            )
        self._vectors = [self._add_vector(kernel, i) for i, kernel in enumerate(kernels)]
        # Attributes u, u_1 ... too, for tf.train.Checkpoint, which does not look into the lists of Keras.
        for vector in self._vectors:
            setattr(self, vector.name, vector)
        self.built = True

    def _add_vector(self, kernel, index):
        return self.add_weight(
            name="u" if index == 0 else f"u_{index}",
            shape=(self._num_outputs(kernel),),
            initializer="random_normal",
            trainable=False,
            dtype=keras.backend.result_type(kernel.dtype, "float32"),
        )

    @property
    def _kernels(self):
        # Not an attribute: Keras would count the kernels as weights of this layer too and save them twice.
        mode = self.layer.quantization_mode
        if mode not in _QUANTIZATIONS:
            raise ValueError(
                "`SpectralNormalization` works with layers quantized to int8 or float8. For other modes, quantize the "
                f"layer that `fold` returns. Received: {self.layer.name}, quantized to {mode}."
            )
        weights = self.layer.weights
        if any(weight.name.startswith("lora_") for weight in weights):
            raise ValueError(
                f"`SpectralNormalization` does not support LoRA. Received: {self.layer.name}, with LoRA enabled."
            )
        return [weight for weight in weights if weight.name in KERNEL_NAMES]

    @property
    def vectors(self):
        """The stored left singular vector of every kernel, a list."""
        return list(self._vectors)

    def call(self, inputs, training=None):
        normalized = self._normalized_weights(store=bool(training) and self.trainable)
        # The layer reads W / sigma in place of W. Its other variables pass through the scope too, because a new scope
        # hides an outer one (a JAX training step); assignments of the layer are applied afterwards.
        values = {id(variable): ops.convert_to_tensor(variable) for variable in self.layer.variables}
        values |= {id(variable): value for variable, value in normalized}
        mapping = [(variable, values[id(variable)]) for variable in self.layer.variables]
        with RecordingScope(mapping, collect_losses=True) as scope:
            for variable, value in normalized:
                scope.replace(variable, value)
            outputs = self.layer(inputs)
        for variable, value in scope.updates.values():
            variable.assign(value)
        for loss in scope.losses:
            self.add_loss(loss)
        return outputs

    def _normalized_weights(self, store=False):
        """Lists (variable, value) of what the layer reads in place of its kernels; W / sigma by its scale in int8."""
        shared = _estimates.get()
        # Taken out: a second call starts where the first one ended.
        estimates = shared.pop(id(self), None) or _estimate([self])[id(self)]
        if store:
            self._store(estimates)
        normalized = []
        for kernel, (value, estimate) in zip(self._kernels, estimates):
            if kernel.dtype == "int8":
                scale = dequantize(self.layer, kernel)[1]
                normalized.append((scale, scale / estimate.factor))
                continue
            axes, dtypes = self._output_axes(kernel), (kernel.dtype, self.layer.compute_dtype)
            normalized.append((kernel, functional.divide_by_sigma(value, estimate, axes, *dtypes)))
        return normalized

    def _store(self, estimates):
        for vector, (_, estimate) in zip(self._vectors, estimates):
            vector.assign(estimate.u)

    def _output_axes(self, kernel):
        layers, layer = keras.layers, owner_of(kernel, self.layer)
        if kernel.name == "embeddings":
            return (0,)
        depthwise = isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D))
        if depthwise or kernel.name == "depthwise_kernel":
            return (-2, -1)
        if isinstance(layer, (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)):
            return (-2,)
        if isinstance(layer, layers.EinsumDense):
            operands, result = layer.equation.replace(" ", "").split("->")
            letters = operands.split(",")[1]
            return tuple(i - len(letters) for i, letter in enumerate(letters) if letter in result)
        return (-1,)

    def _num_outputs(self, kernel):
        return math.prod(kernel.shape[axis] for axis in self._output_axes(kernel))

    def _value(self, kernel, dtype):
        value = dequantize(self.layer, kernel)[0] if kernel.dtype == "int8" else ops.convert_to_tensor(kernel)
        return ops.cast(value, dtype)

    def _matrix(self, kernel, value):
        """The value of a kernel as W^T, (the rest, outputs); without a copy where the outputs are the last axes."""
        axes = self._output_axes(kernel)
        last = tuple(range(-len(axes), 0))
        value = value if axes == last else ops.moveaxis(value, axes, last)
        return ops.reshape(value, (-1, self._num_outputs(kernel)))

    def sigma(self, kernel_index: int = 0) -> Any:
        """Estimates the largest singular value of the raw kernel, as the next call would.

        Args:
            kernel_index: int. Which kernel, for a layer with several.

        Returns:
            Scalar tensor; 1 for a kernel whose sigma is not above `epsilon`.

        Raises:
            ValueError: The layer is not built.
        """
        self._check_built("sigma")
        return 1 / _estimate([self])[id(self)][kernel_index][1].factor

    def update_u(self) -> None:
        """Runs the power iteration of a training call, without inputs, and stores u."""
        update_all_u([self])

    def fold(self) -> keras.layers.Layer:
        """Returns a plain layer that computes the same as this one at inference.

        Returns:
            A new layer of the wrapped type, name and policy with kernel W / sigma and copies of the other weights.

        Raises:
            ValueError: The layer is not built.
        """
        self._check_built("fold")
        plain = type(self.layer).from_config(self.layer.get_config())
        plain.build_from_config(self.layer.get_build_config())
        values = {id(weight): weight for weight in self.layer.weights}
        values |= {id(variable): value for variable, value in self._normalized_weights()}
        # Quantization changes the order of weights, not their names.
        by_name = [sorted(layer.weights, key=lambda weight: weight.name) for layer in (plain, self.layer)]
        for target, source in zip(*by_name):
            target.assign(values[id(source)])
        return plain

    def _check_built(self, method):
        if not self.built:
            raise ValueError(f"`{method}` needs a built layer. Received: {self.name}, never called.")

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs, training=None):
        # That of the wrapped layer: under a mixed policy the dtypes differ.
        return self.layer.compute_output_spec(inputs)

    def compute_mask(self, inputs, mask=None):
        return self.layer.compute_mask(inputs, mask)

    def get_config(self):
        config = super().get_config()
        config.pop("dtype", None)  # the wrapped layer's
        return {**config, "power_iterations": self.power_iterations, "epsilon": self.epsilon}


def _estimate(layers):
    """Lists of (W, `Estimate`) of the kernels of layers, by the id of the layer."""
    groups, layers = {}, [layer for layer in layers if layer.built]  # a layer that its model never calls is not built
    for layer in layers:
        for kernel, vector in zip(layer._kernels, layer._vectors):
            group = groups.setdefault((vector.dtype, layer.power_iterations, layer.epsilon), [])
            value = layer._value(kernel, vector.dtype)
            matrix = layer._matrix(kernel, ops.stop_gradient(value))
            group.append((id(layer), value, matrix, ops.convert_to_tensor(vector)))
    estimates = {id(layer): [] for layer in layers}
    for (_, iterations, epsilon), group in groups.items():
        names, values, matrices, vectors = zip(*group)
        estimated = functional.estimate_sigmas(matrices, vectors, iterations, epsilon)
        for name, value, estimate in zip(names, values, estimated):
            estimates[name].append((value, estimate))
    return estimates


@contextlib.contextmanager
def normalized_together(model: keras.layers.Layer) -> Iterator[None]:
    """Runs the power iterations of all spectral normalizations of a model at once, for its one call inside.

    The results are those of the call alone, to float rounding, by fewer operations.

    Args:
        model: A Keras layer or model.
    """
    token = _estimates.set(_estimate(spectral_normalizations(model).values()))
    try:
        yield
    finally:
        _estimates.reset(token)


def update_all_u(layers: Sequence[SpectralNormalization]) -> None:
    """`SpectralNormalization.update_u` of several layers, by fewer operations."""
    estimates = _estimate(layers)
    for layer in layers:
        if layer.built:
            layer._store(estimates[id(layer)])


def spectral_normalizations(model: keras.layers.Layer) -> dict[str, SpectralNormalization]:
    """Finds every `SpectralNormalization` in a model, also inside other layers.

    Args:
        model: A Keras layer or model.

    Returns:
        dict, path of names such as `attention_32/query` -> layer, in the order of the model; a number is added to a
        path that another layer has.
    """
    found = []

    def visit(layer, path):
        if isinstance(layer, SpectralNormalization):
            found.append(("/".join(path), layer))
            return
        for child in child_layers(layer):
            visit(child, (*path, child.name))

    visit(model, ())
    layers, seen = {}, set()
    for path, layer in found:
        if id(layer) not in seen:  # else a shared one
            seen.add(id(layer))
            paths = itertools.chain([path], (f"{path}_{i}" for i in itertools.count(1)))
            layers[next(each for each in paths if each not in layers)] = layer
    return layers
