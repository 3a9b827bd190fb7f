"""`python -m sagan_tf.evaluate RUN`: FID, KID and more of a run's generator, or of a folder of images."""

from sagan_tf.errors import one_line_errors
from sagan_tf.utils.startup import quiet_imports


def main(argv=None, prog="python -m sagan_tf.evaluate"):
    """Evaluates, prints a table, and writes JSON and images."""
    with one_line_errors("The same command continues from the features in the `.collecting` folder."):
        from sagan_tf.commands.option_parser import parse_options
        from sagan_tf.commands.options import EvaluateOptions

        options = parse_options(EvaluateOptions, argv, prog)
        with quiet_imports():
            from sagan_tf.commands.evaluate import evaluate
            from sagan_tf.evaluation.results import format_table
            from sagan_tf.experiment.preflight import translate_memory_errors

        with translate_memory_errors("Choose a smaller --batch_size, --num_samples or --num_reference."):
            result = evaluate(options)
        if result is None:
            return  # a worker other than the chief
        print(format_table(result))
        for path in result.files:
            print(path)


if __name__ == "__main__":
    main()
