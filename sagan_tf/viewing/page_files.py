"""Self-contained HTML pages from the templates, styles and scripts in `pages/`."""

import json
import re
from importlib import resources


def fill_page(name, data):
    """Fills a template in `pages/`: `/*FILE report.css*/` becomes that file, `__DATA__` the data as JSON."""
    pages = resources.files("sagan_tf.viewing").joinpath("pages")

    def read(part):
        return pages.joinpath(*part.split("/")).read_text(encoding="utf-8")

    page = re.sub(r"/\*FILE ([\w./-]+)\*/", lambda match: read(match[1]), read(name))
    # "<" in the data could end the script element. The data comes last, so placeholders in it are left alone.
    json_text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return page.replace("__DATA__", json_text, 1)
