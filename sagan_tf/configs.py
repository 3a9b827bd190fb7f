"""`python -m sagan_tf.configs`: the configs that come with the package, by name."""

import argparse

from sagan_tf.errors import one_line_errors


def main(argv=None, prog="python -m sagan_tf.configs"):
    """Prints a line per config: its name and what it is for."""
    with one_line_errors():
        from sagan_tf.config.catalog import named_configs, purpose

        description = "Lists the configs that come with the package: `sagan train --config NAME` trains one."
        argparse.ArgumentParser(prog=prog, description=description).parse_args(argv)
        for name, file in named_configs().items():
            print(f"{name:40}{purpose(file)}")


if __name__ == "__main__":
    main()
