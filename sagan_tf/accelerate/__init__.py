"""Faster kernels for a device, which replace reference operations of `sagan_tf.layers.functional`."""

from sagan_tf.accelerate import convolution as convolution  # sets the default kernels
from sagan_tf.accelerate.registry import use_kernels as use_kernels
