"""Keras layers, written in keras.ops alone; each works in any Keras model on any backend."""

from sagan_tf.layers.batch_normalization import BatchNormalization as BatchNormalization
from sagan_tf.layers.conditional_batch_normalization import (
    ConditionalBatchNormalization as ConditionalBatchNormalization,
)
from sagan_tf.layers.convolution import Conv2D as Conv2D
from sagan_tf.layers.nearest_upsampling import NearestUpsampling as NearestUpsampling
from sagan_tf.layers.relu import ReLU as ReLU
from sagan_tf.layers.residual_sum import ResidualSum as ResidualSum
from sagan_tf.layers.self_attention import SelfAttention as SelfAttention
from sagan_tf.layers.spectral_normalization import SpectralNormalization as SpectralNormalization
from sagan_tf.layers.spectral_normalization import spectral_normalizations as spectral_normalizations
