"""`python -m sagan_tf.export RUN --out DIR`: a run's averaged generator, ready to leave the training machine."""

import re
import sys
import tempfile
from pathlib import Path

from sagan_tf.config.names import did_you_mean
from sagan_tf.errors import OneLineParser, UserError, one_line_errors
from sagan_tf.export.formats import DEFAULT_FORMATS, FORMATS
from sagan_tf.export.model_card import make_model_card, write_model_card
from sagan_tf.export.provenance import describe_training, load_generator
from sagan_tf.generation.folding import fold_generator
from sagan_tf.runs.folder import Run


def main(argv=None, prog="python -m sagan_tf.export"):
    """Exports.

    Args:
        argv: list of str, arguments. None: those of this process.
        prog: Command that the help names.

    Raises:
        SystemExit: With code 0 after `--help`, 2 on bad input.
    """
    with one_line_errors():
        options = _options(argv, prog)
        run = Run.open(options.run)
        options.training = describe_training(run, run.config())
        generator = load_generator(run)
        _make_folder(options.out)
        export(generator, options)


def _options(argv, prog):
    parser = OneLineParser(prog=prog, description=__doc__.partition(": ")[2], allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="Run folder.")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="Folder to write to; may be there.")
    parser.add_argument(
        "--formats", type=_formats, default=DEFAULT_FORMATS, metavar="NAMES",
        help=f"Some of {','.join(FORMATS)}, with commas. Default: {','.join(DEFAULT_FORMATS)}.",
    )
    parser.add_argument("--name", type=_name, default="sagan", help="Name of the served model. Default: sagan.")
    parser.add_argument(
        "--version", type=_version, metavar="N", help="Version of the served model. Default: the next free one."
    )
    parser.add_argument(
        "--node_modules", type=Path, metavar="DIR", help="LiteRT.js for `web`. Default: fetched by npm, once."
    )
    return parser.parse_args(sys.argv[1:] if argv is None else argv)


def _formats(text):
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in FORMATS:
            hint = did_you_mean(name, FORMATS) or f" The formats are {', '.join(FORMATS)}."
            raise UserError(f"--formats: unknown format `{name}`.{hint}")
    if not names:
        raise UserError(f"--formats: name one of {', '.join(FORMATS)}.")
    return tuple(dict.fromkeys(names))


def _name(text):
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", text):
        raise UserError(f"--name: `{text}` is no name of a model: letters, digits, `_`, `-` and `.`, none in front.")
    return text


def _version(text):
    if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        raise UserError(f"--version: must be a whole number from 1. Got `{text}`.")
    return int(text)


def _make_folder(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # os.access says yes to root on read-only disks; only writing tells.
        tempfile.TemporaryFile(dir=folder).close()
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--out: a file lies where the folder {folder} goes. Choose another.") from None
    except OSError as error:
        raise UserError(f"--out: {folder} cannot be written: {error.strerror}. Choose another.") from None


def export(generator, options):
    """Writes all formats and the model card.

    Args:
        generator: keras.Model.
        options: argparse.Namespace with `out`, `formats`, `name`, `version`, `node_modules`, and `training`, a dict of
            `describe_training`.

    Raises:
        UserError: The version is there already.
    """
    folded = fold_generator(generator)
    artefacts = []
    for name in options.formats:
        try:
            made = FORMATS[name](folded, options.out, options)
        except FileExistsError as error:
            raise UserError(f"{error} Choose another with --version, or leave it out.") from None
        for path in made:
            print(f"{name}: {path}")
        artefacts += made
    card = make_model_card(options.name, folded, options.out, artefacts, options.training)
    print(f"model card: {write_model_card(card, options.out)[-1]}")


if __name__ == "__main__":
    main()
