"""`python -m sagan_tf.report RUN ...`: one page of a run, or of several side by side."""

from sagan_tf.errors import one_line_errors
from sagan_tf.utils.startup import quiet_imports


def main(argv=None, prog="python -m sagan_tf.report"):
    """Writes the page and prints its path."""
    with one_line_errors():
        from sagan_tf.commands.option_parser import parse_options
        from sagan_tf.commands.options import ReportOptions

        options = parse_options(ReportOptions, argv, prog)
        with quiet_imports():
            from sagan_tf.commands.report import report

        print(report(options))


if __name__ == "__main__":
    main()
