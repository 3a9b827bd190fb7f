"""Registers our classes with Keras, so that `keras.models.load_model` finds them after `import sagan_tf` alone."""

import importlib
import sys


def register_with_keras():
    """Imports the modules that register classes: at once if Keras is imported, otherwise right after it is."""
    if hasattr(sys.modules.get("keras"), "saving"):
        _register()
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _register():
    importlib.import_module("sagan_tf.layers")
    # `SAGAN`, unless one of our own modules imports Keras just now: those that `SAGAN` needs may not be complete.
    ours = [module for name, module in sys.modules.items() if name.startswith("sagan_tf.") and module is not None]
    is_importing = any(getattr(module.__spec__, "_initializing", False) for module in ours)
    if sys.modules["keras"].backend.backend() == "tensorflow" and not is_importing:
        importlib.import_module("sagan_tf.training.gan")


class _AfterKeras:
    """Import hook that runs `_register` right after Keras is imported."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        finders = [finder for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                execute(module)
                sys.meta_path.remove(self)
                _register()

            spec.loader.exec_module = execute_and_register
        return spec
