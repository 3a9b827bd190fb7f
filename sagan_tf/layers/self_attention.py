"""Self-attention over the positions of a feature map."""

import math
from typing import Any

import keras
from keras import ops

from sagan_tf.errors import check_positive_int
from sagan_tf.layers.convolution import Conv2D
from sagan_tf.layers.keras_compat import KEEPS_INTERMEDIATES, custom_gradient, turn_off_remat
from sagan_tf.layers.spectral_normalization import SpectralNormalization

# Largest score matrix of an image that is computed at once, and size of the blocks of a larger one (4 and 1 MiB).
# Measured on a CPU: smaller blocks save no memory, larger ones no time.
WHOLE_SCORES = 2**20
BLOCK_SCORES = 2**18


@keras.saving.register_keras_serializable(package="sagan_tf")
class SelfAttention(keras.layers.Layer):
    """Adds to each position of a feature map a learned mix of all positions.

    Queries, keys and values are 1x1 convolutions of the inputs x:

        score[i, j] = softmax over j of (query_i . key_j),   o_i = projection(sum over j of score[i, j] value_j)
        output = x + gamma o

    gamma is one trainable number that starts at 0, so the layer starts as identity. The logits are not divided by the
    root of the depth. Several forms are in use; the default is that of the authors' code:

    | form | key_reduction | value_reduction | pool_size | output_projection |
    |---|---|---|---|---|
    | authors' code, TF-GAN, BigGAN-PyTorch, StudioGAN | 8 | 2 | 2 | True |
    | paper as printed (ICML 2019) | 8 | 8 | 1 | True |
    | first arXiv version; popular PyTorch ports (*) | 8 | 1 | 1 | False |

    (*) with `spectral_normalization=False, use_bias=True`

    The scores of an image take N*M*4 bytes, and training keeps several such matrices. Where they are large, the queries
    are processed in blocks, and the backward pass recomputes the scores of each block: memory grows with N instead of
    N*M, and the result is the same up to rounding.

    Symbols: B batch, H, W height and width in px, C channels, N = H*W queries, M = (H/pool_size)*(W/pool_size) keys.

    Args:
        key_reduction: int >= 1. Query and key have C // key_reduction channels.
        value_reduction: int >= 1. Value has C // value_reduction channels.
        pool_size: int >= 1. Key and value are max-pooled by it.
        output_projection: bool. Last 1x1 convolution, back to C channels; without it `value_reduction` must be 1.
        spectral_normalization: bool. Normalize the convolutions.
        use_bias: bool. Give the convolutions a bias.
        kernel_initializer: Initializer of the convolutions.
        power_iterations: int >= 1. See `SpectralNormalization`.
        epsilon: float > 0. See `SpectralNormalization`.
        query_block_size: int >= 1, queries per block; N or more: all at once. None: blocks of about 2^18 scores where
            an image has more than 2^20 (4 MiB), else all at once.

    Call arguments:
        inputs: Feature map, (B, H, W, C), floating point, channels last.
        training: bool. True stores the result of the power iteration of the convolutions.
        return_attention_scores: bool. Also return the scores; all queries at once.

    Returns:
        Feature map, (B, H, W, C); with scores also (B, N, M) float32, each row sums to 1, both axes row by row.

    Raises:
        ValueError: C is smaller than a reduction, H or W is unknown or no multiple of `pool_size`, or the arguments
            contradict one another.

    Example:
        >>> tuple(SelfAttention()(keras.ops.ones((2, 32, 32, 64))).shape)
        (2, 32, 32, 64)

    Source: Zhang et al. 2019, equations 1 to 3, https://arxiv.org/abs/1805.08318; pooling and channels as in
        brain-research/self-attention-gan, non_local.py (there theta, phi, g and the last convolution).
    """

    def __init__(
        self,
        key_reduction: int = 8,
        value_reduction: int = 2,
        pool_size: int = 2,
        output_projection: bool = True,
        spectral_normalization: bool = True,
        use_bias: bool = False,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        power_iterations: int = 1,
        epsilon: float = 1e-12,
        query_block_size: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        turn_off_remat(self)  # a recomputation would run further power iterations
        self.key_reduction = check_positive_int("key_reduction", key_reduction)
        self.value_reduction = check_positive_int("value_reduction", value_reduction)
        self.pool_size = check_positive_int("pool_size", pool_size)
        if query_block_size is not None:
            query_block_size = check_positive_int("query_block_size", query_block_size)
        if not output_projection and value_reduction != 1:
            raise ValueError(
                "Without `output_projection` the value must keep all channels: `value_reduction` must be 1. "
                f"Received: {output_projection=}, {value_reduction=}."
            )
        self.output_projection = output_projection
        self.spectral_normalization = spectral_normalization
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.power_iterations = power_iterations
        self.epsilon = epsilon
        self.query_block_size = query_block_size

    def build(self, input_shape):
        height, width, channels = self._check_shape(input_shape)
        self.query = self._convolution(channels // self.key_reduction, "query")
        self.key = self._convolution(channels // self.key_reduction, "key")
        self.value = self._convolution(channels // self.value_reduction, "value")
        for convolution in (self.query, self.key, self.value):
            convolution.build(input_shape)
        if self.output_projection:
            self.projection = self._convolution(channels, "projection")
            self.projection.build((*input_shape[:-1], channels // self.value_reduction))
        self.gamma = self.add_weight(name="gamma", shape=(), initializer="zeros")
        self.built = True

    def _check_shape(self, input_shape):
        if len(input_shape) != 4:
            raise ValueError(
                f"`SelfAttention` takes a feature map (batch, height, width, channels). Received: {input_shape=}."
            )
        _, height, width, channels = input_shape
        if None in (height, width, channels):
            raise ValueError(
                "`SelfAttention` needs a known height, width and number of channels: give the model's Input a full "
                f"shape. Received: {input_shape=}."
            )
        for name in ("key_reduction", "value_reduction"):
            if channels < getattr(self, name):
                raise ValueError(
                    f"`{name}` must not exceed the channels of the feature map. "
                    f"Received: {name}={getattr(self, name)}, {input_shape=}."
                )
        if height % self.pool_size or width % self.pool_size:
            raise ValueError(
                f"`pool_size` must divide height and width. Received: pool_size={self.pool_size}, {input_shape=}."
            )
        return height, width, channels

    def _convolution(self, filters, name):
        convolution = Conv2D(
            filters,
            kernel_size=1,
            use_bias=self.use_bias,
            kernel_initializer=_copy_of(self.kernel_initializer),
            data_format="channels_last",
            dtype=self.dtype_policy,
            name=name,
        )
        if not self.spectral_normalization:
            return convolution
        return SpectralNormalization(convolution, self.power_iterations, self.epsilon, name=name)

    def call(self, inputs, training=None, return_attention_scores=False):
        height, width, channels = self._check_shape(tuple(inputs.shape))
        query = self._positions(self.query(inputs, training=training))  # (B, N, C / key_reduction)
        key = self._positions(self._pool(self.key(inputs, training=training)))  # (B, M, C / key_reduction)
        value = self._positions(self._pool(self.value(inputs, training=training)))  # (B, M, C / value_reduction)
        block = self._queries_of_a_block(query.shape[1], key.shape[1])
        if return_attention_scores:
            scores = _scores(query, key)  # (B, N, M)
            mixed = ops.matmul(ops.cast(scores, value.dtype), value)
        elif block >= query.shape[1]:
            mixed = _mix(value.dtype, keep_scores=True)(query, key, value)
        else:
            mixed = _mix_in_blocks(query, key, value, block)
        mixed = ops.reshape(mixed, (-1, height, width, channels // self.value_reduction))
        if self.output_projection:
            mixed = self.projection(mixed, training=training)
        outputs = inputs + self.gamma * mixed
        return (outputs, scores) if return_attention_scores else outputs

    def _queries_of_a_block(self, queries, keys):
        if self.query_block_size is not None:
            return self.query_block_size
        if queries * keys <= WHOLE_SCORES:
            return queries
        blocks = math.ceil(queries * keys / BLOCK_SCORES)
        return math.ceil(queries / blocks)

    def _pool(self, x):
        if self.pool_size == 1:
            return x
        return ops.max_pool(x, self.pool_size, self.pool_size, data_format="channels_last")

    @staticmethod
    def _positions(x):
        _, height, width, channels = x.shape
        return ops.reshape(x, (-1, height * width, channels))

    def compute_output_shape(self, input_shape):
        self._check_shape(input_shape)
        return tuple(input_shape)

    def compute_output_spec(self, inputs, training=None, return_attention_scores=False):
        batch, height, width, _ = self.compute_output_shape(inputs.shape)
        outputs = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return outputs
        keys = (height // self.pool_size) * (width // self.pool_size)
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        return outputs, keras.KerasTensor((batch, height * width, keys), dtype=dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "key_reduction": self.key_reduction,
            "value_reduction": self.value_reduction,
            "pool_size": self.pool_size,
            "output_projection": self.output_projection,
            "spectral_normalization": self.spectral_normalization,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "power_iterations": self.power_iterations,
            "epsilon": self.epsilon,
            "query_block_size": self.query_block_size,
        }


def _copy_of(initializer):
    """A copy for each convolution: a shared object would start query and key with the same values."""
    is_object = isinstance(initializer, keras.initializers.Initializer)  # else it is a function
    return initializer.clone() if is_object else initializer


def _full_precision(x):
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))


def _scores(query, key):
    # In float32 under any policy: softmax turns an error of the logits into a factor.
    return ops.softmax(ops.matmul(_full_precision(query), _transpose(_full_precision(key))), axis=-1)


def _transpose(x):
    return ops.transpose(x, (0, 2, 1))


def _mix_in_blocks(query, key, value, size):
    """As `_mix`, for query (B, N, D), key (B, M, D) and value (B, M, E), with `size` queries at a time: (B, N, E)."""
    queries, dtype = query.shape[1], value.dtype
    blocks = math.ceil(queries / size)
    query = ops.pad(query, ((0, 0), (0, blocks * size - queries), (0, 0)))  # cut off below
    query = ops.transpose(ops.reshape(query, (-1, blocks, size, query.shape[-1])), (1, 0, 2, 3))
    # In float32, because the gradients of key and value are summed block by block.
    key, value, mix = _full_precision(key), _full_precision(value), _mix(dtype, keep_scores=False)
    mixed = ops.map(lambda block: mix(block, key, value), query)  # (blocks, B, size, E)
    mixed = ops.reshape(ops.transpose(mixed, (1, 0, 2, 3)), (-1, blocks * size, value.shape[-1]))
    return mixed[:, :queries]


def _mix(dtype, keep_scores):
    """Returns a function of query (B, n, D), key (B, M, D) and value (B, M, E): softmax(query key^T) value, (B, n, E).

    Its gradient makes few passes over the scores. Matrix products but for the logits are in `dtype`, and so are the
    scores that are kept. Without `keep_scores` the backward pass recomputes them, because a loop would keep those of
    all blocks. (`keras.remat` cannot be differentiated twice on TensorFlow, which the R1 penalty needs.)
    """

    @custom_gradient
    def mix(query, key, value):
        scores = ops.cast(_scores(query, key), dtype)
        mixed = ops.matmul(scores, ops.cast(value, dtype))
        kept = scores if keep_scores and KEEPS_INTERMEDIATES else None

        def gradient(upstream):
            scores = ops.cast(_scores(query, key), dtype) if kept is None else kept
            # The gradient of a row of scores less its mean, as one matrix product with two more columns: the mean and
            # its rounding error. The small difference is then not taken between rounded numbers.
            mean = _mean_score_gradient(upstream, mixed)
            rounded = ops.cast(mean, dtype)
            error = ops.cast(mean - ops.cast(rounded, mean.dtype), dtype)
            values = ops.cast(value, dtype)
            one = ops.ones_like(values[..., :1])
            left = ops.concatenate((upstream, -rounded, -error), axis=-1)
            of_logits = scores * ops.matmul(left, _transpose(ops.concatenate((values, one, one), axis=-1)))
            of_query = ops.matmul(of_logits, ops.cast(key, dtype))
            of_key = ops.matmul(_transpose(of_logits), ops.cast(query, dtype))
            of_value = ops.matmul(_transpose(scores), upstream)
            return tuple(ops.cast(g, x.dtype) for g, x in ((of_query, query), (of_key, key), (of_value, value)))

        return mixed, gradient

    return mix


def _mean_score_gradient(upstream, mixed):
    """Mean gradient of a row of scores, weighted by the scores."""
    # Needs no pass over the scores. Source: Dao et al. 2022, https://arxiv.org/abs/2205.14135, equation 4 (there D).
    return ops.sum(_full_precision(upstream) * _full_precision(mixed), axis=-1, keepdims=True)
