"""Registers our classes with Keras, so that `keras.models.load_model` finds them after `import sagan_tf` alone."""

import functools
import importlib
import sys


def register_with_keras():
    """Imports the modules that register classes: at once if Keras is imported, otherwise once it is."""
    if _has_keras():
        _register()
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _has_keras():
    return hasattr(sys.modules.get("keras"), "saving")


def _register():
    importlib.import_module("sagan_tf.layers")
    if sys.modules["keras"].backend.backend() == "tensorflow":
        importlib.import_module("sagan_tf.training.gan")


class _AfterKeras:
    """Import hook that runs `_register` once Keras is imported.

    If one of our modules imports Keras, it runs after that module, which `SAGAN` may need.
    """

    def __init__(self):
        self._unfinished = 0  # Imports of our modules and of Keras.

    def find_spec(self, name, path=None, target=None):
        if name != "keras" and not name.startswith("sagan_tf."):
            return None
        finders = [finder for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = functools.partial(self._execute, spec.loader.exec_module)
        return spec

    def _execute(self, execute, module):
        self._unfinished += 1
        try:
            execute(module)
        finally:
            self._unfinished -= 1
        if not self._unfinished and _has_keras() and self in sys.meta_path:
            sys.meta_path.remove(self)
            _register()
