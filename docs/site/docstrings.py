"""Extension of Griffe: headings of our docstrings in the words that its Google style knows."""

import re

from griffe import Extension

_HEADINGS = {
    r"^Example:$": "Examples:",
    r"^Call arguments:$": "Other Args: Call arguments:",
    r"^(Symbols|Source): ": r"**\1:** ",
    r"(?<=[\w)])\*(?=[\w(])": r"\\*",  # a product, no emphasis
}


class Headings(Extension):
    """Renames headings, and keeps a line that begins with a word and a colon from becoming a box."""

    def on_object(self, *, obj, **kwargs):
        if not obj.is_alias and obj.docstring:
            for heading, replacement in _HEADINGS.items():
                obj.docstring.value = re.sub(heading, replacement, obj.docstring.value, flags=re.MULTILINE)
