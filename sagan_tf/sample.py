"""`python -m sagan_tf.sample RUN`: pictures of a run's averaged generator, by class and seed."""

from sagan_tf.commands.arguments import positive, positives, whole_number, words
from sagan_tf.errors import OneLineParser, UserError, one_line_errors

WAYS = ("latents", "classes")


def main(argv=None, prog="python -m sagan_tf.sample"):
    """Draws samples; without a wish, a grid.

    Args:
        argv: list of str, arguments. None: those of this process.
        prog: Command that the help names.

    Raises:
        SystemExit: With code 0 after `--help`, 2 on bad input.
    """
    with one_line_errors():
        options = vars(make_parser(prog).parse_args(argv))
        # Not before the arguments are found good: these imports take seconds.
        from pathlib import Path

        from sagan_tf.commands.sample import Wishes, sample_run
        from sagan_tf.runs.folder import Run

        run = Run.open(options.pop("run"))
        options["out"] = options["out"] and Path(options["out"])
        for path in sample_run(run, Wishes(**options)):
            print(path)


def make_parser(prog):
    """Makes the parser of the command.

    Args:
        prog: Command that the help names.

    Returns:
        argparse.ArgumentParser.
    """
    parser = OneLineParser(prog=prog, description=__doc__.partition(": ")[2], allow_abbrev=False)
    add = parser.add_argument
    add("run", metavar="RUN", help="run folder")
    add("--out", metavar="DIR", help="folder to write to (default: RUN/pictures)")
    add("--step", type=whole_number(0), metavar="N", help="step of a checkpoint (default: the newest)")
    add("--seed", type=whole_number(0), default=0, metavar="N", help="first seed; a seed is one latent (default: 0)")
    add("--classes", type=words("--classes"), metavar="LIST", help="names or numbers, or all (default: the first ten)")
    add("--columns", type=whole_number(1), default=8, metavar="N", help="seeds a class (default: 8)")
    add("--truncation", type=positive, default=6.0, metavar="T",
        help="largest entry of a latent; 6, the default, is the whole normal distribution")
    add("--sweep", type=positives, default=(), metavar="LIST",
        help="one latent at these truncations, such as 0.3,0.6,1,2,6")
    add("--interpolate", type=_ways, default=(), metavar="WAYS",
        help="strips between latents, classes or both: latents,classes")
    add("--frames", type=whole_number(2), default=9, metavar="N", help="pictures of a strip (default: 9)")
    add("--animate", choices=("gif", "webp"), help="interpolation as an animation too")
    add("--files", type=whole_number(1), default=0, metavar="N",
        help="N single PNG files, the classes in turn; the workers of TF_CONFIG share them")
    return parser


def _ways(text):
    words = tuple(word.strip() for word in text.split(","))
    for word in words:
        if word not in WAYS:
            raise UserError(f"--interpolate: `{word}` is no way. The ways are {', '.join(WAYS)}.")
    return words


if __name__ == "__main__":
    main()
