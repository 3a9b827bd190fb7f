"""`python -m sagan_tf.sample RUN`: pictures of a run's averaged generator, by class and seed."""

import math

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

        from sagan_tf.runs import Run
        from sagan_tf.sampled_runs import Wishes, sample_run

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
    add("--step", type=_at_least(0), metavar="N", help="step of a checkpoint (default: the newest)")
    add("--seed", type=_at_least(0), default=0, metavar="N", help="first seed; a seed is one latent (default: 0)")
    add("--classes", type=_words, metavar="LIST", help="names or numbers, or all (default: the first ten)")
    add("--columns", type=_at_least(1), default=8, metavar="N", help="seeds a class (default: 8)")
    add("--truncation", type=_cut, default=6.0, metavar="T",
        help="largest entry of a latent; 6, the default, is the whole normal distribution")
    add("--sweep", type=_cuts, default=(), metavar="LIST",
        help="one latent at these truncations, such as 0.3,0.6,1,2,6")
    add("--interpolate", type=_ways, default=(), metavar="WAYS",
        help="strips between latents, classes or both: latents,classes")
    add("--frames", type=_at_least(2), default=9, metavar="N", help="pictures of a strip (default: 9)")
    add("--animate", choices=("gif", "webp"), help="interpolation as an animation too")
    add("--files", type=_at_least(1), default=0, metavar="N", help="N single PNG files, the classes in turn")
    return parser


def _at_least(least):
    def number(text):
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value < 2**62:
            raise UserError(f"command line: `{text}` is no whole number from {least}. --help lists the options.")
        return value

    return number


def _words(text):
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if not words:
        raise UserError("--classes: name a class, or leave it out.")
    return words


def _cut(text):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (0 < value < math.inf):
        raise UserError(f"command line: a truncation must be a number above 0. Got `{text}`.")
    return value


def _cuts(text):
    return tuple(_cut(word) for word in text.split(",") if word.strip())


def _ways(text):
    words = tuple(word.strip() for word in text.split(","))
    for word in words:
        if word not in WAYS:
            raise UserError(f"--interpolate: `{word}` is no way. The ways are {', '.join(WAYS)}.")
    return words


if __name__ == "__main__":
    main()
