"""`python -m sagan_tf.sample RUN`: images of a run's averaged generator, by class and seed."""

from sagan_tf.errors import one_line_errors
from sagan_tf.utils.startup import quiet_imports


def main(argv=None, prog="python -m sagan_tf.sample"):
    """Writes images and prints their paths."""
    with one_line_errors():
        from sagan_tf.commands.option_parser import parse_options
        from sagan_tf.commands.options import SampleOptions

        options = parse_options(SampleOptions, argv, prog)
        with quiet_imports():
            from sagan_tf.commands.sample import sample_run
            from sagan_tf.experiment.preflight import translate_memory_errors

        with translate_memory_errors("Choose a smaller --columns, --files or --frames, or fewer classes."):
            for path in sample_run(options):
                print(path)


if __name__ == "__main__":
    main()
