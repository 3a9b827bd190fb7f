"""Option types, Markdown tables, JSON files and chart style of the benchmarks."""

import importlib.util
import json

from sagan_tf.errors import UserError, install_hint
from sagan_tf.runs.environment import describe_environment, describe_process


def parse_ints(text):
    """Parses comma-separated ints."""
    return [int(part) for part in text.split(",")]


def describe_machine():
    """Describes hardware and versions, without command and time; where TensorFlow is missing, without GPUs."""
    description = describe_environment() if importlib.util.find_spec("tensorflow") else describe_process()
    return {name: value for name, value in description.items() if name not in ("command", "started_at")}


def markdown_table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def load_pyplot(**style):
    """Imports matplotlib.pyplot for charts without a display; `style` overrides rcParams."""
    try:
        import matplotlib
    except ImportError:
        raise UserError(f"charts need matplotlib. {install_hint('figures')}") from None

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            **style,
        }
    )
    return pyplot


def set_log_scale(axes):
    """Makes the y axis logarithmic, with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
