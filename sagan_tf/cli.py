"""The console script `sagan COMMAND`."""

import importlib
import sys

from sagan_tf import __version__
from sagan_tf.errors import UserError, did_you_mean, one_line_errors

# Command -> (module with `main(argv, prog)`, what it does). Modules are imported when used.
COMMANDS = {
    "train": ("sagan_tf.train", "train as a config says, or resume an interrupted run"),
    "configs": ("sagan_tf.configs", "list the configs that come with the package"),
    "prepare": ("sagan_tf.prepare", "decode, crop and resize a large data set once, for fast training"),
    "convert": ("sagan_tf.convert", "make a run folder from a PyTorch checkpoint"),
    "sample": ("sagan_tf.sample", "write images by class and seed, truncations, interpolations"),
    "attend": ("sagan_tf.attend", "draw and measure attention maps; write an explorer"),
    "evaluate": ("sagan_tf.evaluate", "measure FID, KID and more of a run or of a folder of images"),
    "report": ("sagan_tf.report", "write the page of a run, or of several side by side"),
    "export": ("sagan_tf.export.__main__", "write SavedModel, TFLite and more from a run folder"),
    "push": ("sagan_tf.push", "upload a run's generator to the Hugging Face Hub, with a model card"),
    "serve": ("sagan_tf.serve", "serve an exported model on this machine, as TensorFlow Serving does"),
}


def main(argv=None):
    """Runs the command that the first argument names; None takes the arguments of this process."""
    argv = sys.argv[1:] if argv is None else argv
    with one_line_errors():
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(_usage())
        elif argv[0] == "--version":
            print(f"sagan_tf {__version__}")
        elif argv[0] in COMMANDS:
            module, _ = COMMANDS[argv[0]]
            importlib.import_module(module).main(argv[1:], prog=f"sagan {argv[0]}")
        else:
            suggestion = did_you_mean(argv[0], COMMANDS) or f" Choose from {', '.join(COMMANDS)}."
            raise UserError(f"unknown command `{argv[0]}`.{suggestion}")


def _usage():
    lines = [f"  {command:10}{purpose}" for command, (_, purpose) in COMMANDS.items()]
    return "\n".join(["usage: sagan COMMAND [OPTIONS]", "", *lines, "", "sagan COMMAND --help lists its options."])


if __name__ == "__main__":
    main()
