"""Masks the secrets that stand in one attribute of a tag while another one names them.

``<input name="csrfmiddlewaretoken" value="…">`` is in every page with a form, ``<meta name="csrf-token" content="…">``
in many, ``<add key="DbPassword" value="…"/>`` in configuration files.
"""

from __future__ import annotations

import re
from typing import Final

from otel_audit.redaction.marks import Marker
from otel_audit.redaction.names import Names

__all__ = ["mask_tags"]

_MAX_TAG: Final = 2000  # characters between the beginning of a tag and the name in it
_TAG: Final = re.compile(r"<([\w:.\-]++)(?:[^<>\"']++|\"[^\"]*+\"|'[^']*+')*+>")
_ATTRIBUTE: Final = re.compile(r"([\w:.\-]++)(\s*+=\s*+)(?:\"([^\"]*+)\"|'([^']*+)'|([^\s\"'>]++))")
_TEXT: Final = re.compile(r"(?!\s*+<(?!!\[CDATA\[))(?:[^<]++|<!\[CDATA\[(?:[^\]]++|\](?!\]>))*+(?:\]\]>|\Z))++")
#: ``<key>password</key><string>…</string>``, as property lists and XML-RPC write it.
_NEIGHBOUR: Final = re.compile(
    r"<(name|key|member)>\s*+([^<]{1,100}+)</\1>\s*+<(?:\w{1,20}+)>(?:\s*+<\w{1,20}+>)?+([^<]++)", re.IGNORECASE
)
_NAMING: Final = frozenset({"name", "id", "key", "property", "itemprop"})
_HOLDING: Final = frozenset({"value", "content"})


def mask_tags(text: str, places: list[int], names: Names, marker: Marker) -> str:
    """Return ``text`` with the values masked of tags that have a secret's name.

    Args:
        text: XML or HTML.
        places: where secrets' names may stand in it, in order.
        names: the names of secrets.
        marker: makes what stands in their place.
    """
    kept: list[str] = []
    done = failed = -1
    for place in places:
        start = text.rfind("<", max(done, place - _MAX_TAG, 0), place)
        if start < 0 or start == failed:
            continue
        tag = _TAG.match(text, start)
        if tag is None or tag.end() <= place:
            failed = start
            continue
        written = tag[0]
        masked = _masked(written, names, marker)
        kept += (text[max(done, 0) : start], masked)
        done = tag.end()
        if masked is not written and (end := _text_end(text, tag)) > done:
            kept.append(marker.mark(text[done:end]))
            done = end
    text = "".join((*kept, text[done:])) if kept else text
    return _NEIGHBOUR.sub(lambda match: _mask_neighbour(match, names, marker), text)


def _text_end(text: str, tag: re.Match[str]) -> int:
    """Return where the text of ``<property name="password">…</property>`` ends, the tag's end where it has none."""
    behind = _TEXT.match(text, tag.end())
    if behind is None or not (behind.end() == len(text) or text.startswith(f"</{tag[1]}", behind.end())):
        return tag.end()
    return behind.end()


def _mask_neighbour(match: re.Match[str], names: Names, marker: Marker) -> str:
    if not names.secret(match[2]):
        return match[0]
    return match[0][: match.start(3) - match.start()] + marker.mark(match[3])


def _masked(tag: str, names: Names, marker: Marker) -> str:
    found = [(match[1].lower(), match[3] or match[4] or match[5] or "") for match in _ATTRIBUTE.finditer(tag)]
    if any(names.secret(value) if key in _NAMING else (key, value) == ("type", "password") for key, value in found):
        return _ATTRIBUTE.sub(lambda match: _mask_value(match, marker), tag)
    return tag


def _mask_value(match: re.Match[str], marker: Marker) -> str:
    value = match[3] or match[4] or match[5]
    if match[1].lower() not in _HOLDING or not value:
        return match[0]
    quote = match[0][len(match[1]) + len(match[2])]
    quote = quote if quote in "\"'" else ""
    return f"{match[1]}{match[2]}{quote}{marker.mark(value)}{quote}"
