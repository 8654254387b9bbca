"""Text in a PDF: which font has a character, how wide a line is, where it must be cut.

A PDF viewer draws nothing for a character that the font lacks, so an actor's name could vanish from the report. The
font is therefore chosen per character: the bundled DejaVu, else one that the system has. A character that none
has, or that would draw nothing or reorder the line (controls, bidirectional overrides), is written as its code point.
Text is drawn as it is, never parsed as markup: there is nothing in it to escape.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from reportlab.pdfbase.pdfmetrics import getFont, registerFont
from reportlab.pdfbase.ttfonts import TTFError, TTFont

__all__ = ["BOLD", "MONO", "SANS", "displayable", "fit", "runs", "width", "wrap"]

SANS: Final = "OTelAudit-Sans"
BOLD: Final = "OTelAudit-Bold"
MONO: Final = "OTelAudit-Mono"

_BUNDLED: Final = {
    SANS: "DejaVuSansCondensed.ttf",
    BOLD: "DejaVuSansCondensed-Bold.ttf",
    MONO: "DejaVuSansMono.ttf",
}
#: Fonts with TrueType outlines that a system may have, for scripts that DejaVu lacks. Noto's CJK fonts have others.
_SYSTEM: Final = (
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/wqy-microhei/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/usr/share/fonts/truetype/noto/NotoSansDevanagari-Regular.ttf",
    "/usr/share/fonts/truetype/noto/NotoSansThai-Regular.ttf",
    "/usr/share/fonts/truetype/ancient-scripts/Symbola_hint.ttf",
)
_ELLIPSIS: Final = "…"
_WIDEST: Final = 1.1  # em; wider than any character of the bundled fonts
_NARROWEST: Final = 0.2  # em; what is longer than a line of these cannot fit, however it is measured
_ESCAPED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_PLAIN: Final = re.compile(r"[\x20-\x7e]*")
_RIGHT_TO_LEFT: Final = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")
_RIGHT_TO_LEFT_WORDS: Final = re.compile(f"{_RIGHT_TO_LEFT.pattern}+(?: +{_RIGHT_TO_LEFT.pattern}+)*")


@lru_cache(maxsize=4096)
def displayable(text: str) -> str:
    """Return ``text`` on one line, with every character that cannot be shown written as ``\\n`` or ``[U+1F600]``."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(_shown(character) for character in text)


def width(text: str, face: str, size: float) -> float:
    """Return the width in points of a line that went through `displayable`."""
    return sum(getFont(font).stringWidth(part, size) for font, part in runs(text, face))


@lru_cache(maxsize=8192)
def fit(text: str, room: float, face: str, size: float) -> str:
    """Return the longest beginning of ``text`` that ``room`` points can hold, with an ellipsis where it was cut."""
    most = int(room / (size * _NARROWEST)) + 1
    line = displayable(text[:most])
    whole = len(text) <= most
    if whole and (len(line) * size * _WIDEST <= room or width(line, face, size) <= room):
        return line
    return _cut(line, room, face, size)


def wrap(text: str, room: float, face: str, size: float, lines: int) -> list[str]:
    """Return at most ``lines`` lines of ``text``, broken at spaces that leave no short line; the last may be cut."""
    most = int(room * lines / (size * _NARROWEST)) + 1
    rest = displayable(text[:most].strip())
    broken: list[str] = []
    while rest and len(broken) < lines - 1 and width(rest, face, size) > room:
        end = _characters_that_fit(rest, room, face, size)
        space = rest.rfind(" ", 0, end + 1)
        end = space if space > end // 2 else max(end, 1)
        broken.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    if rest:
        longer = len(text.strip()) > most
        broken.append(_cut(rest, room, face, size) if longer else fit(rest, room, face, size))
    return broken


def runs(text: str, face: str) -> list[tuple[str, str]]:
    """Return ``text`` in visual order as pieces of one font each: ``(font name, piece)``."""
    _register(face)
    if text.isascii():
        return [(face, text)]
    return _runs(_visual(text), face)


def _runs(text: str, face: str) -> list[tuple[str, str]]:
    pieces: list[tuple[str, str]] = []
    for character in text:
        font = _font_for(character, face) or face
        if pieces and pieces[-1][0] == font:
            pieces[-1] = (font, pieces[-1][1] + character)
        else:
            pieces.append((font, character))
    return pieces


def _cut(line: str, room: float, face: str, size: float) -> str:
    end = _characters_that_fit(line, room - width(_ELLIPSIS, face, size), face, size)
    return line[:end].rstrip() + _ELLIPSIS


def _characters_that_fit(line: str, room: float, face: str, size: float) -> int:
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        if width(line[:middle], face, size) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _shown(character: str) -> str:
    if character in _ESCAPED:
        return _ESCAPED[character]
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") or not _font_for(character, SANS):
        return f"[U+{ord(character):04X}]"
    return character


@lru_cache(maxsize=4096)
def _font_for(character: str, face: str) -> str | None:
    """Return the first font that has ``character``: ``face``, the other bundled ones, the system's."""
    return next((name for name in _candidates(face) if _has(name, character)), None)


def _candidates(face: str) -> Iterator[str]:
    """Yield the bundled fonts before the system's, which cost time to load."""
    for name in (face, SANS):
        _register(name)
        yield name
    yield from _system_fonts()


def _has(name: str, character: str) -> bool:
    font: Any = getFont(name)  # a TTFont, which the stubs do not know
    return ord(character) in font.face.charToGlyph


@cache
def _register(face: str) -> None:
    registerFont(TTFont(face, Path(__file__).parent / "fonts" / _BUNDLED[face], shapable=False))


@cache
def _system_fonts() -> tuple[str, ...]:
    return tuple(_load_system_fonts())


def _load_system_fonts() -> Iterator[str]:
    for path in map(Path, _SYSTEM):
        if not path.is_file():
            continue
        name = f"OTelAudit-{path.stem}"
        try:
            registerFont(TTFont(name, path, shapable=False))
        except TTFError:
            continue  # outlines that reportlab cannot embed: its characters are written as code points
        yield name


def _visual(text: str) -> str:
    """Return a line in the order in which it is drawn: python-bidi's where it is installed, else words turned round."""
    if _RIGHT_TO_LEFT.search(text) is None:
        return text
    if find_spec("bidi") is None:
        return _RIGHT_TO_LEFT_WORDS.sub(lambda words: words[0][::-1], text)
    if find_spec("arabic_reshaper") is not None:
        text = _joiner().reshape(text)
    # From left to right, as the report is written: a name never turns the rest of its line round.
    return str(import_module("bidi.algorithm").get_display(text, base_dir="L"))


@cache
def _joiner() -> Any:
    """Return what joins Arabic letters, without the one sign for the word Allah, which few fonts have."""
    return import_module("arabic_reshaper").ArabicReshaper(configuration={"ARABIC LIGATURE ALLAH": False})
