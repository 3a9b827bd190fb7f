"""Self-contained HTML pages from the files in `pages/`: what a page loads stands in it."""

import json
import re
from importlib import resources


def fill_page(name, data):
    """Makes a page of a template, its styles and scripts, and data.

    A mark such as `/*FILE report.css*/` in the template stands for the text of that file, `__DATA__` for the data.

    Args:
        name: Of the template, a file of `pages/`.
        data: JSON values, all finite.

    Returns:
        str, HTML.
    """
    pages = resources.files("sagan_tf.viewing").joinpath("pages")

    def text(part):
        return pages.joinpath(*part.split("/")).read_text(encoding="utf-8")

    page = re.sub(r"/\*FILE ([\w./-]+)\*/", lambda mark: text(mark[1]), text(name))
    # "<" would let a name in the data end the script. Last: nothing in the data is a mark then.
    island = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return page.replace("__DATA__", island, 1)
