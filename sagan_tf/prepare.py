"""`python -m sagan_tf.prepare`: a data set decoded, cropped and resized once, for fast training."""

from sagan_tf.errors import one_line_errors
from sagan_tf.utils.startup import quiet_imports


def main(argv=None, prog="python -m sagan_tf.prepare"):
    """Prepares the images and prints what there is."""
    with one_line_errors("The same command continues."):
        from sagan_tf.commands.option_parser import parse_options
        from sagan_tf.commands.options import PrepareOptions

        options = parse_options(PrepareOptions, argv, prog)
        with quiet_imports():
            from sagan_tf.commands.prepare import prepare_splits

        for line in prepare_splits(options):
            print(line, flush=True)


if __name__ == "__main__":
    main()
