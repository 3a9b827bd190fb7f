"""Builds the site of docs/ in build/site: `make docs`, or `python docs/site/build.py`.

Collects the pages in build/pages, laid out as in the repository: the Markdown files that exist, the tables of options
and config fields from the parsers of the commands, and the notebooks of docs/tutorials as pages. Then Zensical renders
them and fails on a link, an anchor or a name that does not exist. `--pages` stops before that.
"""

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "build" / "pages"
CONFIG = ROOT / "mkdocs.yml"
FILES = ("*.md", "docs/**/*.md", "docs/**/*.png", "docs/**/*.svg", "docs/kubernetes/*.yaml",
         "export/*/README.md")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pages", action="store_true", help="only collect the pages")
    options = parser.parse_args()
    shutil.rmtree(PAGES, ignore_errors=True)
    tutorials = write_pages()
    settings = yaml.safe_load(CONFIG.read_text())
    settings["nav"] = with_tutorials(settings["nav"], tutorials)
    check_navigation(settings["nav"])
    if options.pages:
        return
    # Beside mkdocs.yml, to which its paths are relative.
    config = ROOT / "build" / "mkdocs.yml"
    settings |= {"docs_dir": "pages", "site_dir": "site"}
    handler = next(p for p in settings["plugins"] if "mkdocstrings" in p)["mkdocstrings"]["handlers"]["python"]
    handler["paths"] = [str(ROOT)]
    handler["options"]["extensions"] = [str(ROOT / path) for path in handler["options"]["extensions"]]
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", str(config)]
    done = subprocess.run(command, env={**os.environ, "NO_COLOR": "1"}, text=True, capture_output=True)
    print(done.stdout + done.stderr)
    # Griffe's warnings, such as of an argument without a type, do not count as issues for Zensical.
    sys.exit(done.returncode or "griffe: " in done.stdout + done.stderr)


def write_pages():
    """Writes all pages; returns those of the notebooks by title."""
    for file in sorted({file for pattern in FILES for file in ROOT.glob(pattern)}):
        write_page(file.relative_to(ROOT), file.read_bytes())
    write_page("docs/reference/commands.md", commands_page().encode())
    write_page("docs/reference/config.md", config_page().encode())
    tutorials = {}
    for file in sorted((ROOT / "docs" / "tutorials").glob("*.ipynb")):
        text, pictures = notebook_page(json.loads(file.read_text()), file.stem)
        page = file.relative_to(ROOT).with_suffix(".md")
        write_page(page, text.encode())
        for name, data in pictures.items():
            write_page(page.with_name(name), data)
        tutorials[re.search(r"^# (.+)", text, re.MULTILINE)[1]] = page.as_posix()
    return tutorials


def write_page(path, data):
    target = PAGES / path
    target.parent.mkdir(parents=True, exist_ok=True)
    # A link to a notebook leads to its page.
    target.write_bytes(re.sub(rb"(\]\([^)\s:]+)\.ipynb(?=[)#])", rb"\1.md", data) if target.suffix == ".md" else data)


def with_tutorials(nav, tutorials):
    """The navigation with the notebooks; without notebooks there is no such section."""
    filled = [{"Tutorials": [{title: page} for title, page in tutorials.items()]} if "Tutorials" in part else part
              for part in nav]  # fmt: skip
    return [part for part in filled if all(part.values())]


def check_navigation(nav):
    """Zensical does not say which pages the navigation omits or only names."""
    listed = set(re.findall(r"[\w/]+\.md", json.dumps(nav)))
    pages = {page.relative_to(PAGES).as_posix() for page in PAGES.rglob("*.md")}
    if listed != pages:
        raise SystemExit(
            f"mkdocs.yml: not in nav: {sorted(pages - listed)}; in nav, but no such page: {sorted(listed - pages)}."
        )


def notebook_page(notebook, stem):
    """Markdown of a notebook with its outputs, and its pictures: dict, name -> bytes."""
    parts, pictures = [], {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code":
            parts.append(f"```python\n{source}\n```")
            for output in cell["outputs"]:
                data = output.get("data", {})
                if "image/png" in data:
                    name = f"{stem}_{len(pictures)}.png"
                    pictures[name] = base64.b64decode("".join(data["image/png"]))
                    parts.append(f"![Output]({name})")
                elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                    parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts) + "\n", pictures


def commands_page():
    """The options of every command but `train`, from its parser."""
    from sagan_tf.cli import COMMANDS
    from sagan_tf.commands import options
    from sagan_tf.commands.option_parser import make_parser

    parts = ["# Commands\n\n`sagan COMMAND` and `python -m sagan_tf.COMMAND` are the same. The options of `sagan "
             "train` are the fields of a [config](config.md); `sagan configs` has none."]  # fmt: skip
    for command in COMMANDS:
        cls = getattr(options, f"{command.capitalize()}Options", None)
        if cls is not None:
            parser = make_parser(cls, f"sagan {command}")
            parts += [f"## sagan {command}\n\n{parser.description}", options_table(parser._actions)]
    return "\n\n".join(parts) + "\n"


def config_page():
    """The fields of a config with their defaults, from the parser of `train`."""
    from sagan_tf.config import Config
    from sagan_tf.config.checks import flat_fields
    from sagan_tf.config.command_line import make_parser
    from sagan_tf.config.keys import field_types

    parser = make_parser("sagan train", field_types(), dict(flat_fields(Config())))
    parts = ["# Config\n\nThe fields of a YAML config, and the options of `sagan train`. The defaults are those of the "
             "paper's ImageNet run where it gives a value. Without a config, the values are those of `quickstart`: "
             "`sagan train --help all` shows them."]  # fmt: skip
    for group in parser._action_groups:
        if group._group_actions and group.title != "positional arguments":
            title = "sagan train" if group.title == "options" else group.title
            parts += [f"## {title}\n\n{group.description or ''}", options_table(group._group_actions)]
    return "\n\n".join(parts) + "\n"


def options_table(actions):
    rows = ["| option | |", "|---|---|"]
    for action in actions:
        if "--help" not in action.option_strings:
            name = action.option_strings[0] if action.option_strings else ""
            value = "" if action.nargs == 0 else (action.metavar or action.dest)
            text = " ".join(action.help.replace("%%", "%").replace("<", "&lt;").split())
            name, text = (cell.replace("|", "\\|") for cell in (f"{name} {value}".strip(), text))
            rows.append(f"| `{name}` | {text} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
