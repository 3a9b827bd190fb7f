"""`python -m sagan_tf.train`: trains as a config says, or resumes an interrupted run."""

import sys

from sagan_tf.config import load_command_line
from sagan_tf.errors import STOPPED_CODES, one_line_errors


def main(argv=None, prog="python -m sagan_tf.train"):
    """Trains and prints the run folder; a run that a signal stopped ends with the code of the signal."""
    with one_line_errors("Nothing that was saved is lost: run the same command to resume."):
        config, options = load_command_line(argv, prog)
        # Imported after parsing: these take seconds.
        from sagan_tf.experiment.train import train
        from sagan_tf.training.memory import limit_arenas

        limit_arenas()
        run = train(config, allow_data_change=options.allow_data_change)
        print(f"Run folder: {run.path}")
        if run.stopped_by is not None:
            sys.exit(STOPPED_CODES.get(run.stopped_by, STOPPED_CODES["SIGTERM"]))  # another worker's signal otherwise


if __name__ == "__main__":
    main()
