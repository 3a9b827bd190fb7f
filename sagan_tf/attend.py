"""`python -m sagan_tf.attend RUN`: attention maps of a run's generator and discriminator."""

from sagan_tf.errors import one_line_errors
from sagan_tf.utils.startup import quiet_imports


def main(argv=None, prog="python -m sagan_tf.attend"):
    """Draws and measures attention maps, and prints paths and a table."""
    with one_line_errors():
        from sagan_tf.commands.option_parser import parse_options
        from sagan_tf.commands.options import AttendOptions

        options = parse_options(AttendOptions, argv, prog)
        with quiet_imports():
            from sagan_tf.commands.attend import attend_run
            from sagan_tf.experiment.preflight import translate_memory_errors

        with translate_memory_errors("Choose a smaller --images or --measured."):
            for line in attend_run(options):
                print(line)


if __name__ == "__main__":
    main()
