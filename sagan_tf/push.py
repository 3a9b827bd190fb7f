"""`python -m sagan_tf.push RUN hf://owner/name`: a run's averaged generator for the Hugging Face Hub."""

from sagan_tf.errors import one_line_errors
from sagan_tf.utils.startup import quiet_imports


def main(argv=None, prog="python -m sagan_tf.push"):
    """Uploads and prints the address."""
    with one_line_errors():
        from sagan_tf.commands.option_parser import parse_options
        from sagan_tf.commands.options import PushOptions

        options = parse_options(PushOptions, argv, prog)
        with quiet_imports():
            from sagan_tf.commands.push import push_run

        print(push_run(options))


if __name__ == "__main__":
    main()
