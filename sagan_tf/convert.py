"""`python -m sagan_tf.convert`: a run folder from checkpoints of SAGANs in PyTorch, or the reverse."""

from sagan_tf.errors import one_line_errors
from sagan_tf.utils.startup import quiet_imports


def main(argv=None, prog="python -m sagan_tf.convert"):
    """Converts checkpoints, or a run, and prints what they hold."""
    with one_line_errors():
        from sagan_tf.commands.option_parser import parse_options
        from sagan_tf.commands.options import ConvertOptions

        options = parse_options(ConvertOptions, argv, prog)
        with quiet_imports():
            from sagan_tf.commands.convert import convert

        for line in convert(options):
            print(line)


if __name__ == "__main__":
    main()
