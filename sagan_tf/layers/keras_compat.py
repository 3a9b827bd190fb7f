"""Keras internals that sagan_tf relies on, each with a test that says what breaks when Keras changes."""

import contextlib
import functools

import keras
from keras import ops

# Whether a gradient of `custom_gradient` may take what the function computed, and be differentiated again.
KEEPS_INTERMEDIATES = keras.backend.backend() != "torch"


def custom_gradient(function):
    """`keras.ops.custom_gradient` whose gradient takes the upstream gradient as its only argument on every backend.

    PyTorch does not record the function: in a second derivative, what its gradient takes from it is a constant, unless
    it is an input or an output (`KEEPS_INTERMEDIATES`).

    Args:
        function: Function of tensors that returns (outputs, function of the upstream gradient).

    Returns:
        Function of tensors that returns the outputs.
    """

    @ops.custom_gradient
    @functools.wraps(function)
    def wrapped(*inputs):
        outputs, gradient = function(*inputs)

        def backward(*arguments, upstream=None):
            # PyTorch's backend passes it by name, and a context before it.
            return gradient(arguments[0] if upstream is None else upstream)

        return outputs, backward

    return wrapped


class RecordingScope(keras.StatelessScope):
    """Records every variable that is assigned inside, also one that no layer lists, such as the state of an LSTM.

    Attributes:
        updates: dict, id of a variable -> (variable, value).
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.updates = {}

    def replace(self, variable, value):
        """Makes reads of a variable give a value as it is; the constructor casts values to the variable's dtype."""
        self.state_mapping[id(variable)] = value

    def add_update(self, update):
        """Is called by Keras for every assignment."""
        super().add_update(update)
        self.updates[id(update[0])] = update


def child_layers(layer):
    """Lists the layers directly inside a layer or model."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def owner_of(weight, layer):
    """The innermost layer in a layer, or itself, that a weight belongs to, such as that inside `TimeDistributed`."""
    # Outer layers come before inner ones.
    return [part for part in layer._flatten_layers() if any(each is weight for each in part.weights)][-1]


def turn_off_remat(layer):
    """Makes a layer and all inside keep their activations, also those made under `keras.RematScope`."""
    for part in layer._flatten_layers():
        part._remat_mode = None


def set_trainable(layer, value):
    """Sets `trainable` of a layer and of all inside; Keras passes it on only from a layer whose own value changes."""
    for part in layer._flatten_layers():
        part.trainable = not value
        part.trainable = value


@contextlib.contextmanager
def all_trainable(layer):
    """Makes a layer and all inside trainable for a while, also those that are frozen on their own."""
    before = [(part, part.trainable) for part in layer._flatten_layers()]
    set_trainable(layer, True)
    try:
        yield
    finally:
        for part, trainable in before:  # parents first: they pass it on to their children
            part.trainable = trainable


def dequantize(layer, kernel):
    """Reads a kernel that Keras quantized to int8.

    Args:
        layer: Dense, EinsumDense or Embedding after `quantize("int8")`.
        kernel: Its variable `kernel` or `embeddings`.

    Returns:
        (tensor, variable): the float kernel, and the scales that the layer divides it by.
    """
    scale = getattr(layer, f"{kernel.name}_scale")
    divisor = ops.convert_to_tensor(scale)
    if kernel.name == "embeddings":
        divisor = ops.expand_dims(divisor, axis=-1)
    elif isinstance(layer, keras.layers.EinsumDense):
        divisor = layer._adjust_scale_for_dequant(divisor)
    return ops.cast(ops.convert_to_tensor(kernel), divisor.dtype) / divisor, scale


def adam_slots(optimizer, variable):
    """Finds the moment estimates (m, v) that a Keras Adam keeps of a variable."""
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


class PreparedAdam(keras.optimizers.Adam):
    """Adam whose `update_step` gets, as its learning rate, what `prepare` makes of it once for all weights."""

    def prepare(self, learning_rate, variables):
        """Returns what `update_step` gets for each of the variables."""
        return learning_rate

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        prepared = self.prepare(learning_rate, trainable_variables)
        super()._backend_update_step(grads, trainable_variables, prepared)


class BuiltModel(keras.Model):
    """A model that is built by its constructor: `fit` does not call it on symbolic inputs first."""

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if not self.built:
            raise ValueError(f"{type(self).__name__} must be built before `fit`.")
