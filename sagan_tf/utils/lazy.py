"""Packages that import what they export when it is first used (PEP 562). Imports nothing of the package."""

import importlib
import sys


def lazy_exports(package, homes):
    """Makes the `__getattr__` and the `__dir__` of a package.

    Args:
        package: str, name of the package.
        homes: dict, exported name -> module that defines it, or the module itself if it has that name.

    Returns:
        Functions `__getattr__` and `__dir__`.
    """

    def get(name):
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(homes[name])
        value = module if homes[name].endswith(f".{name}") else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def names():
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
