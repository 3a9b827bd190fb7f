"""Runs a notebook in a temporary folder as Jupyter does, without Jupyter.

    python docs/tutorials/run.py NOTEBOOK --store    stores the outputs: `make tutorials`, for all of them
    python docs/tutorials/run.py NOTEBOOK --short    for the tests: two steps of training, without compilation

Stored are what cells print and show; not stderr, with progress bars and TensorFlow's start-up.
"""

import argparse
import ast
import base64
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--store", action="store_true", help="write the outputs to the notebook")
    parser.add_argument("--short", action="store_true", help="run eagerly, with STEPS = 2")
    options = parser.parse_args()
    # As in an activated environment, where `sagan` is found.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if options.short:
        fit_eagerly()
    path = options.notebook.resolve()
    notebook = json.loads(path.read_text())
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run(notebook["cells"], options.short)
        os.chdir(path.parent)
    if options.store:
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def run(cells, short):
    """Runs the code cells in order and replaces their outputs."""
    session = Session()
    for count, cell in enumerate((cell for cell in cells if cell["cell_type"] == "code"), 1):
        source = "".join(cell["source"])
        if short:
            source = re.sub(r"^STEPS = \d+", "STEPS = 2", source, flags=re.MULTILINE)
        cell["outputs"] = session.run(source, count)
        cell["execution_count"] = count


def fit_eagerly():
    """Makes `fit` of Keras run without compilation, which takes longer than two steps."""
    import keras
    import tensorflow as tf

    def fit(*args, **kwargs):
        tf.config.run_functions_eagerly(True)
        try:
            return compiled_fit(*args, **kwargs)
        finally:
            tf.config.run_functions_eagerly(False)

    compiled_fit, keras.Model.fit = keras.Model.fit, fit


class Session:
    """The namespace of a notebook, with `display`."""

    def __init__(self):
        self._names = {"__name__": "__main__", "display": self._display, "_shell": run_shell}
        self._text, self._outputs = io.StringIO(), []

    def run(self, source, count):
        """Runs a cell; returns its outputs as of nbformat 4."""
        self._outputs = []
        source = re.sub(r"^!((?:.*\\\n)*.*)", lambda line: f"_shell({line[1]!r})", source, flags=re.MULTILINE)
        name = f"<cell {count}>"
        tree = ast.parse(source, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(self._text):
            exec(compile(tree, name, "exec"), self._names)
            value = None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), self._names)
            self._store_text()
        if value is not None and not source.rstrip().endswith(";"):
            output = {"output_type": "execute_result", "execution_count": count}
            self._outputs.append(output | {"data": mime_bundle(value), "metadata": {}})
        return self._outputs

    def _display(self, *values):
        self._store_text()
        for value in values:
            self._outputs.append({"output_type": "display_data", "data": mime_bundle(value), "metadata": {}})

    def _store_text(self):
        if text := self._text.getvalue():
            self._outputs.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)})
        self._text.seek(0)
        self._text.truncate()


def run_shell(command):
    """Runs a line after `!`; one that fails ends the notebook, unlike in Jupyter."""
    print(subprocess.run(command, shell=True, check=True, stdout=subprocess.PIPE, text=True).stdout, end="")


def mime_bundle(value):
    if hasattr(value, "_repr_png_"):
        return {"image/png": base64.b64encode(value._repr_png_()).decode()}
    return {"text/plain": repr(value).splitlines(keepends=True)}


if __name__ == "__main__":
    main()
