"""The console script `sagan`: the commands as verbs."""

import importlib
import sys

from sagan_tf import __version__
from sagan_tf.errors import UserError, did_you_mean, one_line_errors

# Verb -> (module with `main(argv, prog)`, what it does). Modules load when they are asked for.
VERBS = {
    "train": ("sagan_tf.train", "train as a config says, or go on with an interrupted run"),
    "convert": ("sagan_tf.convert", "write a run folder from a PyTorch checkpoint"),
    "sample": ("sagan_tf.sample", "draw pictures by class and seed, truncations, interpolations"),
    "attend": ("sagan_tf.attend", "draw and measure attention maps; write an explorer"),
    "evaluate": ("sagan_tf.evaluate", "measure FID, KID and more, of a run or of a folder of pictures"),
    "report": ("sagan_tf.report", "write the page of a run, or of several side by side"),
    "export": ("sagan_tf.export.__main__", "write SavedModel, TFLite and more from a run folder"),
    "serve": ("sagan_tf.serve", "serve an exported model on this machine, as TensorFlow Serving does"),
}


def main(argv=None):
    """Hands the arguments to the verb that stands first.

    Args:
        argv: list of str. None: those of this process.

    Raises:
        SystemExit: With the verb's code; 2 on an unknown verb.
    """
    argv = sys.argv[1:] if argv is None else argv
    with one_line_errors():
        if not argv or argv[0] in ("-h", "--help", "help"):
            print(usage())
        elif argv[0] == "--version":
            print(f"sagan_tf {__version__}")
        else:
            module, _ = VERBS[_known(argv[0])]
            importlib.import_module(module).main(argv[1:], prog=f"sagan {argv[0]}")


def usage():
    """Lists the verbs.

    Returns:
        str, several lines.
    """
    verbs = [f"  {verb:10}{purpose}" for verb, (_, purpose) in VERBS.items()]
    return "\n".join(["usage: sagan VERB [OPTIONS]", "", *verbs, "", "sagan VERB --help lists the options of a verb."])


def _known(verb):
    if verb not in VERBS:
        suggestion = did_you_mean(verb, VERBS) or f" Choose from {', '.join(VERBS)}."
        raise UserError(f"unknown verb `{verb}`.{suggestion}")
    return verb


if __name__ == "__main__":
    main()
