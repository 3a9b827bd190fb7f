"""`python -m sagan_tf.export RUN --out DIR`: a run's averaged generator for deployment."""

from sagan_tf.errors import one_line_errors
from sagan_tf.utils.startup import quiet_imports


def main(argv=None, prog="python -m sagan_tf.export"):
    """Exports and prints the paths of what is written."""
    with one_line_errors():
        from sagan_tf.commands.option_parser import parse_options
        from sagan_tf.commands.options import ExportOptions

        options = parse_options(ExportOptions, argv, prog)
        with quiet_imports():
            from sagan_tf.commands.export import export_run

        for kind, path in export_run(options):
            print(f"{kind}: {path}")


if __name__ == "__main__":
    main()
