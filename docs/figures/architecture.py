"""Draws the packages in the order of the import contract in setup.cfg, with the first sentence of each docstring.

    python docs/figures/architecture.py            # writes docs/figures/architecture.svg

`tests/test_docs.py` checks that the image is up to date.
"""

import ast
import configparser
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURE = Path(__file__).with_suffix(".svg")
WIDTH, ROW, GAP = 1040, 26, 12
COLORS = ["#eef3fb", "#eaf6ee", "#fdf3e4", "#f6edf8", "#eef7f7"]


def contract_rows():
    """Reads the contract "Imports point down": rows of names, from top to bottom."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lines = parser["importlinter:contract:layers"]["layers"].split("\n")
    return [[name.strip(" ()") for name in line.split("|")] for line in lines if line]


def first_sentence(name):
    """Reads what a module or package says that it is."""
    path = ROOT / "sagan_tf" / f"{name}.py"
    path = path if path.exists() else ROOT / "sagan_tf" / name / "__init__.py"
    line = ast.get_docstring(ast.parse(path.read_text())).partition("\n")[0]
    return line.replace("`", "").partition(". ")[0].rstrip(".")


def draw():
    """Returns the image as SVG."""
    parts, y = [], GAP
    for number, names in enumerate(contract_rows()):
        height = ROW * len(names) + GAP
        parts.append(
            f'<rect x="{GAP}" y="{y}" width="{WIDTH - 2 * GAP}" height="{height}" rx="6" '
            f'fill="{COLORS[number % len(COLORS)]}" stroke="#9aa5b1"/>'
        )
        for i, name in enumerate(names):
            base = y + GAP / 2 + ROW * (i + 0.68)
            parts.append(f'<text x="{2 * GAP}" y="{base:g}" class="name">{escape(name)}</text>')
            parts.append(f'<text x="150" y="{base:g}">{escape(first_sentence(name))}</text>')
        y += height + GAP
    style = "text{font:13px sans-serif;fill:#222}.name{font:bold 13px monospace}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}">'
    title = "<title>A module imports from rows below its own, never from its own row or above</title>"
    return "\n".join([head, title, f"<style>{style}</style>", '<rect width="100%" height="100%" fill="#fff"/>', *parts,
                      "</svg>", ""])  # fmt: skip


if __name__ == "__main__":
    PICTURE.write_text(draw())
    print(PICTURE)
