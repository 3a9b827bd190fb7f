"""`python -m sagan_tf.train`: trains as a config says, or resumes an interrupted run.

The module itself is `sagan_tf.train(config)`: a function of that name would be replaced by the module once it is
imported.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sagan_tf.errors import STOPPED_CODES, one_line_errors
from sagan_tf.utils.startup import quiet_imports

if TYPE_CHECKING:
    from keras.callbacks import Callback

    from sagan_tf.config import Config
    from sagan_tf.runs.folder import Run

_AFTER_STOP = "Nothing that was saved is lost: run the same command to resume."


def main(argv=None, prog="python -m sagan_tf.train"):
    """Trains and prints the run folder; a run that a signal stopped ends with the code of the signal."""
    with one_line_errors(_AFTER_STOP):
        from sagan_tf.config import load_command_line

        config, options = load_command_line(argv, prog)
        if options.note is not None:
            print(options.note, flush=True)
        with quiet_imports(_AFTER_STOP):
            from sagan_tf.experiment.train import train
            from sagan_tf.training.memory import limit_arenas

        limit_arenas()
        run = train(config, allow_data_change=options.allow_data_change)
        print(f"Run folder: {run.path}")
        if run.stopped_by is not None:
            sys.exit(STOPPED_CODES.get(run.stopped_by, STOPPED_CODES["SIGTERM"]))  # another worker's signal otherwise


class _CallableModule(types.ModuleType):
    def __call__(self, config: Config, callbacks: Sequence[Callback] = (), allow_data_change: bool = False) -> Run:
        """Trains a run, or resumes one; see `sagan_tf.experiment.train.train`."""
        from sagan_tf.experiment.train import train

        return train(config, callbacks, allow_data_change)


sys.modules[__name__].__class__ = _CallableModule

if __name__ == "__main__":
    main()
