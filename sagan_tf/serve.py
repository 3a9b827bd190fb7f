"""`python -m sagan_tf.serve DIR`: exported models over TensorFlow Serving's REST and gRPC API, for development."""

from sagan_tf.errors import one_line_errors
from sagan_tf.utils.startup import quiet_imports


def main(argv=None, prog="python -m sagan_tf.serve"):
    """Serves until stopped."""
    with one_line_errors():
        from sagan_tf.commands.option_parser import parse_options
        from sagan_tf.commands.options import ServeOptions

        options = parse_options(ServeOptions, argv, prog)
        with quiet_imports():
            from sagan_tf.commands.serve import serve

        serve(options, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
