"""`python -m sagan_tf.train`: trains as a config says, or resumes an interrupted run."""

from sagan_tf.config import load_config
from sagan_tf.errors import one_line_errors


def main(argv=None, prog="python -m sagan_tf.train"):
    """Trains and prints the run folder."""
    with one_line_errors("Nothing that was saved is lost: run the same command to resume."):
        config = load_config(argv, prog)
        # Imported after parsing: these take seconds.
        from sagan_tf.experiment.train import train
        from sagan_tf.training.memory import limit_arenas

        limit_arenas()
        run = train(config)
        print(f"Run folder: {run.path}")


if __name__ == "__main__":
    main()
