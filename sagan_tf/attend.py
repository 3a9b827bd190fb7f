"""`python -m sagan_tf.attend RUN`: where each position of a picture looks, in generator and discriminator."""

from sagan_tf.commands.arguments import positive, whole_number, words
from sagan_tf.errors import OneLineParser, UserError, one_line_errors


def main(argv=None, prog="python -m sagan_tf.attend"):
    """Draws and measures attention maps.

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

        from sagan_tf.commands.attend import Wishes, attend_run
        from sagan_tf.runs.folder import Run

        run = Run.open(options.pop("run"))
        options["out"] = options["out"] and Path(options["out"])
        for found in attend_run(run, Wishes(**options)):
            print(found)


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
    add("--out", metavar="DIR", help="folder to write to (default: RUN/attention)")
    add("--network", choices=("generator", "discriminator"), help="default: both")
    add("--pictures", choices=("generated", "real"), help="default: both, real ones for the discriminator alone")
    add("--layers", type=words("--layers"), metavar="LIST", help="layers, such as attention_32 (default: all)")
    add("--step", type=_step, metavar="N", help="step of a checkpoint, or all: rows by step (default: the newest)")
    add("--points", type=_points, metavar="X,Y;X,Y", help="query points in px of the picture (default: five, spread "
        "over what the picture shows)")
    add("--images", type=whole_number(1), metavar="N", help="pictures drawn (default: 4; 16 in the explorer)")
    add("--measured", type=whole_number(1), default=32, metavar="N", help="pictures measured (default: 32)")
    add("--columns", type=whole_number(1), default=1, metavar="N", help="pictures with their maps side by side")
    add("--seed", type=whole_number(0), default=0, metavar="N", help="seed of the first picture (default: 0)")
    add("--truncation", type=positive, default=6.0, metavar="T", help="largest entry of a latent (default: 6, any)")
    add("--classes", type=words("--classes"), metavar="LIST", help="names or numbers, or all (default: the first ten)")
    add("--npz", action="store_true", help="write pictures, points and maps as arrays")
    add("--explorer", action="store_true", help="write one HTML file to move over the pictures in")
    return parser


def _step(text):
    return text if text == "all" else whole_number(0)(text)


def _points(text):
    points = []
    for pair in text.split(";"):
        numbers = [number.strip() for number in pair.split(",")]
        if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
            raise UserError(f"--points: `{pair}` is no point; write points as 3,10;20,5, in px from the top left.")
        points.append(tuple(map(int, numbers)))
    return tuple(points)


if __name__ == "__main__":
    main()
