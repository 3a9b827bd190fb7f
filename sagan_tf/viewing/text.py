"""Text in images, in any script: Pillow's font, and fonts of the system for characters that it lacks; Pillow."""

import functools
import os
import sys
import unicodedata
from pathlib import Path

from PIL import ImageFont, features
from tqdm.auto import tqdm

_DEFAULT = None  # Pillow's own font, in place of a path
_NO_CHARACTER = "\U0010fffe"  # Fonts draw their sign for a missing character.
_UNUSUAL = ("bold", "italic", "oblique", "condensed", "light", "black", "thin", "mono", "serif")  # if there is a choice
_noticed = []


class TextFont:
    """Draws text of one size, each character in a font that has it.

    Characters that no font of the machine has are written as their base letters or code points, and a line on stderr
    says so once.

    Args:
        size: int, px.
    """

    def __init__(self, size):
        self._size = size
        self._ascent, self._descent = _load(_DEFAULT, size).getmetrics()

    def getlength(self, text):
        """The width of a text in px."""
        return sum(_load(path, self._size).getlength(part) for path, part in _runs(text))

    def draw(self, pen, xy, text, color, anchor="la"):
        """Draws a text with a PIL.ImageDraw.Draw; anchors of Pillow: `la`, `lm` or `mm`."""
        x, y = xy
        if anchor[0] == "m":
            x = round(x - self.getlength(text) / 2)
        baseline = y + (self._ascent if anchor[1] == "a" else (self._ascent - self._descent) / 2)
        for path, part in _runs(text):
            font = _load(path, self._size)
            pen.text((x, baseline), part, color, font, anchor="ls")
            x += font.getlength(part)


@functools.lru_cache(maxsize=1024)
def _runs(text):
    """Splits a text into (path of a font, part), in as few fonts as possible."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)
    visible = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    if all(_has(_DEFAULT, letter) for letter in visible):
        return [(_DEFAULT, visible)]
    if not (features.check("raqm") and _system_fonts()):
        text = visible  # format characters are invisible only where they shape the text
    drawable = "".join(map(_drawable, text))
    text = text if drawable == text else " ".join(drawable.split())
    fonts = (_DEFAULT, *_system_fonts())
    whole = next((font for font in fonts if all(_has(font, letter) for letter in text)), None)
    runs = []
    for letter in text:
        font = whole or next(font for font in fonts if _has(font, letter))
        if runs and (font == runs[-1][0] or _has(runs[-1][0], letter)):
            runs[-1] = (runs[-1][0], runs[-1][1] + letter)
        else:
            runs.append((font, letter))
    return runs


def _drawable(letter):
    """A character, or in place of one that no font has, its base letters or its code point."""
    fonts = (_DEFAULT, *_system_fonts())
    if any(_has(font, letter) for font in fonts):
        return letter
    if not _noticed:
        _noticed.append(letter)
        tqdm.write(
            f"Images: no font of this machine has `{letter}`; base letters or code points, such as "
            f"U+{ord(letter):04X}, stand for what is missing. Install a font for it, such as one of Google's Noto.",
            file=sys.stderr,
        )
    base = "".join(part for part in unicodedata.normalize("NFKD", letter) if unicodedata.category(part) != "Mn")
    if all(any(_has(font, part) for font in fonts) for part in base):
        return base
    return f" U+{ord(letter):04X} "


@functools.cache
def _system_fonts():
    """Paths of the fonts in the usual folders, upright sans-serif ones first."""
    data = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    folders = [f"{folder}/fonts" for folder in data.split(":")]
    folders += ["~/.local/share/fonts", "~/.fonts", "~/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts"]
    folders += [os.path.join(os.environ.get("WINDIR", r"C:\Windows"), "Fonts")]
    paths = {
        str(path)
        for folder in folders
        for path in Path(os.path.expanduser(folder)).rglob("*")
        if path.suffix.lower() in (".ttf", ".otf", ".ttc", ".otc")
    }
    return tuple(sorted(paths, key=_unusualness))


def _unusualness(path):
    name = os.path.basename(path).lower()
    return sum(word in name for word in _UNUSUAL), len(name), path


@functools.cache
def _has(path, letter):
    """Whether a font draws a character."""
    if letter.isspace():
        return True
    if unicodedata.category(letter) == "Cf":
        return path is not _DEFAULT
    try:
        return _sign(path, letter) != _sign(path, _NO_CHARACTER)
    except (OSError, ValueError):  # no outlines at this size, or not a font
        return False


def _sign(path, letter):
    # The basic layout does not put a dotted circle below a lone mark.
    return bytes(_load(path, 16, ImageFont.Layout.BASIC).getmask(letter))


@functools.cache
def _load(path, size, layout=None):
    return ImageFont.load_default(size) if path is _DEFAULT else ImageFont.truetype(path, size, layout_engine=layout)
