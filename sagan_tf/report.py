"""`python -m sagan_tf.report RUN ...`: one page of a run, or of several side by side."""

from sagan_tf.errors import OneLineParser, UserError, one_line_errors


def main(argv=None, prog="python -m sagan_tf.report"):
    """Writes the page.

    Args:
        argv: list of str, arguments. None: those of this process.
        prog: Command that the help names.

    Raises:
        SystemExit: With code 0 after `--help`, 2 on bad input.
    """
    parser = OneLineParser(prog=prog, description=__doc__.partition(": ")[2], allow_abbrev=False)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folder; it may be in training")
    parser.add_argument(
        "--out", metavar="FILE", help="default: RUN/report.html, or comparison.html here for several runs"
    )
    with one_line_errors():
        options = parser.parse_args(argv)
        from pathlib import Path

        from sagan_tf.runs.folder import Run
        from sagan_tf.runs.report import write_report

        runs = [Run.open(folder) for folder in options.runs]
        path = runs[0].report_path if len(runs) == 1 else Path("comparison.html")
        path = Path(options.out) if options.out else path
        if path.is_dir():
            raise UserError(f"--out: {path} is a folder; name a file.")
        write_report(runs, path)
        print(path)


if __name__ == "__main__":
    main()
