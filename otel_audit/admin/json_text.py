"""A recorded JSON text on lines of its own: white space is added between its tokens, and nothing else is touched.

Loading and dumping it would lose what an auditor looks for: a key that stands twice, ``1.10``, an escape.
"""

from __future__ import annotations

import json
import re
from typing import Final

__all__ = ["indented"]

_PART: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\],:]|[^\s"{}\[\],:]++')
#: What is nested deeper stands no further to the right; else thousands of brackets would make a page of megabytes.
_DEEPEST: Final = 20


def indented(text: str) -> str:
    """Return ``text`` indented where it is JSON, else as it is."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    parts: list[str] = []
    depth = 0
    before = ""
    for part in _PART.findall(text):
        closes = part in ("}", "]")
        depth -= closes
        empty = closes and before in ("{", "[")
        if (closes and not empty) or (before in ("{", "[", ",") and not closes):
            parts.append("\n" + "  " * min(depth, _DEEPEST))
        parts.append(": " if part == ":" else part)
        depth += part in ("{", "[")
        before = part
    return "".join(parts)
