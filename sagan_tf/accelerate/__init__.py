"""Faster kernels for a device, which replace reference operations of `sagan_tf.layers.functional`."""

from sagan_tf.accelerate import convolution as convolution  # set the default kernels
from sagan_tf.accelerate import full_float32 as full_float32
from sagan_tf.accelerate.registry import use_kernels as use_kernels
