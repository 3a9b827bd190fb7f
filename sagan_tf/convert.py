"""`python -m sagan_tf.convert`: a run folder from checkpoints of BigGAN-PyTorch's or PyTorch-StudioGAN's SAGAN."""

from sagan_tf.errors import OneLineParser, one_line_errors


def main(argv=None, prog="python -m sagan_tf.convert"):
    """Converts.

    Args:
        argv: list of str, arguments. None: those of this process.
        prog: Command that the help names.

    Raises:
        SystemExit: With code 0 after `--help`, 2 on bad input.
    """
    parser = OneLineParser(prog=prog, description=__doc__.partition(": ")[2], allow_abbrev=False)
    parser.add_argument("generator", help="checkpoint of the generator: .pth of torch.save, .safetensors or .npz")
    parser.add_argument("discriminator", nargs="?", help="checkpoint of the discriminator (default: none)")
    parser.add_argument("--out", required=True, help="run folder to write")
    parser.add_argument("--data", default="imagenet2012", help="data set it was trained on (default: %(default)s)")
    with one_line_errors():
        arguments = parser.parse_args(argv)
        # Not before the arguments are found good: this import takes seconds.
        from sagan_tf.commands.convert import convert_checkpoints

        run, lines = convert_checkpoints(
            arguments.generator, arguments.discriminator, arguments.out, arguments.data
        )
        print("\n".join(lines))
        print(f"Run folder: {run.path}")


if __name__ == "__main__":
    main()
