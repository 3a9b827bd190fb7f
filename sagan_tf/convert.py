"""`python -m sagan_tf.convert`: a run folder from checkpoints of SAGANs in PyTorch, or the reverse."""

from sagan_tf.errors import one_line_errors
from sagan_tf.startup import quiet_imports


def main(argv=None, prog="python -m sagan_tf.convert"):
    """Converts checkpoints, or a run, and prints what they hold."""
    with one_line_errors():
        from sagan_tf.commands.option_parser import parse_options
        from sagan_tf.commands.options import ConvertOptions

        options = parse_options(ConvertOptions, argv, prog)
        with quiet_imports():
            from sagan_tf.commands.convert import convert_checkpoints, write_biggan_pytorch

        if options.to is not None:
            names = ("data", "channel_order", "relu_in_place")
            unused = [name for name in names if getattr(options, name) != getattr(ConvertOptions, name)]
            print("\n".join(write_biggan_pytorch(options.generator, options.discriminator, options.out, unused)))
            return
        in_place = None if options.relu_in_place is None else options.relu_in_place == "yes"
        run, lines = convert_checkpoints(
            options.generator, options.discriminator, options.out, options.data, options.channel_order, in_place
        )
        print("\n".join(lines))
        print(f"Run folder: {run.path}")


if __name__ == "__main__":
    main()
