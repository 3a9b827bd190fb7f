"""`python -m sagan_tf.configs`: the configs that come with the package, by name."""

from dataclasses import dataclass

from sagan_tf.errors import one_line_errors


@dataclass(frozen=True)
class ConfigsOptions:
    """Lists the configs that come with the package: `sagan train --config NAME` trains one."""


def main(argv=None, prog="python -m sagan_tf.configs"):
    """Prints one line per config: its name and its purpose."""
    with one_line_errors():
        from sagan_tf.commands.option_parser import parse_options
        from sagan_tf.config.catalog import named_configs, purpose

        parse_options(ConfigsOptions, argv, prog)
        for name, file in named_configs().items():
            print(f"{name:40}{purpose(file)}")


if __name__ == "__main__":
    main()
