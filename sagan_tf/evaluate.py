"""`python -m sagan_tf.evaluate RUN`: FID and its kin of a run's generator, or of a folder of pictures."""

from sagan_tf.commands.arguments import positive, whole_number, words
from sagan_tf.errors import OneLineParser, UserError, one_line_errors

METRICS = ("fid", "kid", "is", "intra_fid", "precision_recall", "density_coverage", "ms_ssim", "rule")


def main(argv=None, prog="python -m sagan_tf.evaluate"):
    """Measures, prints a table, and writes JSON and pictures.

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

        from sagan_tf.commands.evaluate import Wishes, evaluate
        from sagan_tf.evaluation.results import table

        data = {name: options.pop(name) for name in ("data_dir", "manual_dir", "download")}
        options["out"] = options["out"] and Path(options["out"])
        subject = options.pop("subject")
        result = evaluate(subject, Wishes(**options, data=data))
        if result is None:
            return  # a worker that has made its share
        print(table(result))
        for path in result.files:
            print(path)


def make_parser(prog):
    """Makes the parser of the command.

    Args:
        prog: Command that the help names.

    Returns:
        argparse.ArgumentParser.
    """
    parser = OneLineParser(prog=prog, description=__doc__.partition(": ")[2], allow_abbrev=False)
    parser.add_argument("subject", metavar="RUN", help="run folder, or folder of pictures")

    def add(name, **options):
        parser.add_argument(*dict.fromkeys([name, "--" + name[2:].replace("_", "-")]), **options)

    add("--num_samples", type=whole_number(2), default=50_000, metavar="N", help="samples (default: 50000)")
    add("--seed", type=whole_number(0), default=0, metavar="N", help="seed of the first sample (default: 0)")
    add("--truncation", type=positive, default=6.0, metavar="T",
        help="largest entry of a latent; 6, the default, is the whole normal distribution")
    add("--labels", choices=("uniform", "data"), default="uniform",
        help="classes of the samples: in turn (default), or as often as in the data")
    add("--step", type=whole_number(0), metavar="N", help="step of a checkpoint (default: the newest)")
    add("--best", action="store_true", help="the best generator of the evaluations during training")
    add("--standing", type=whole_number(0), default=0, metavar="N",
        help="take batch statistics anew from N batches (default: 0, those of training)")
    add("--reference", metavar="DATA",
        help="data set, folder, or .npz of statistics to measure against (default: what the run was trained on)")
    add("--split", metavar="SPLIT", help="its split (default: that of training)")
    add("--image_size", type=whole_number(1), metavar="PX", help="of a folder's pictures (default: their own)")
    add("--data_dir", metavar="DIR", help="folder of prepared TensorFlow Datasets")
    add("--manual_dir", metavar="DIR", help="folder of archives of a data set")
    add("--download", action="store_true", help="let a data set be downloaded")
    add("--metrics", type=_metrics, metavar="LIST", help=f"some of {','.join(METRICS)} (default: all that can be told)")
    add("--at_infinity", action="store_true", help="extrapolate FID to infinitely many samples too")
    add("--features", metavar="PATH[:NAME]",
        help="Keras file and layer, or SavedModel and output, in place of Inception")
    add("--pixel_range", choices=("-1,1", "0,1", "0,255"), default="-1,1",
        help="what --features takes black and white for (default: -1,1)")
    add("--inception", metavar="PATH", help="TF-GAN's Inception, folder or archive (default: fetched once)")
    add("--inception_sha256", metavar="HASH", help="refuse an Inception of another SHA-256")
    add("--num_reference", type=whole_number(2), default=50_000, metavar="N",
        help="pictures of the reference compared one by one (default: 50000; FID takes all)")
    add("--batch_size", type=whole_number(1), default=64, metavar="N", help="pictures a device (default: 64)")
    add("--replicas", type=whole_number(1), metavar="N", help="devices (default: all GPUs, or the CPU)")
    add("--refresh", action="store_true", help="compute statistics of the data anew")
    add("--out", metavar="DIR", help="folder to write to (default: RUN/evaluation)")
    return parser


def _metrics(text):
    chosen = words("--metrics")(text)
    for name in chosen:
        if name not in METRICS:
            raise UserError(f"--metrics: `{name}` is no metric. The metrics are {', '.join(METRICS)}.")
    return chosen


if __name__ == "__main__":
    main()
