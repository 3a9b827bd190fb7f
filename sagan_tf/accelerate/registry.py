"""Registry of kernels: faster implementations that replace reference operations of the layers."""

import contextlib
import contextvars
import functools
from collections.abc import Callable
from typing import NamedTuple

_defaults = {}
_kernels = contextvars.ContextVar("kernels", default={})


class Kernel(NamedTuple):
    """A faster implementation of an operation.

    Args:
        run: Function with the arguments and the result of the reference operation.
        supports: Function of the same arguments. Whether the kernel takes them.
    """

    run: Callable
    supports: Callable


def set_default_kernels(kernels):
    """Sets kernels, by the names of their operations, that are always in use."""
    _defaults.update(kernels)


@contextlib.contextmanager
def use_kernels(kernels):
    """Uses kernels, before the default ones, for all operations that are called and differentiated inside.

    Args:
        kernels: dict, name of an operation -> `Kernel`.
    """
    token = _kernels.set(kernels)
    try:
        yield
    finally:
        _kernels.reset(token)


def operation(reference):
    """Makes a reference operation replaceable by the kernel of its name that supports its arguments."""

    @functools.wraps(reference)
    def run(*arguments):
        for kernels in (_kernels.get(), _defaults):
            kernel = kernels.get(reference.__name__)
            if kernel is not None and kernel.supports(*arguments):
                return kernel.run(*arguments)
        return reference(*arguments)

    return run
