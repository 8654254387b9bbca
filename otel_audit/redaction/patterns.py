"""Secrets that show by their shape, wherever they stand in a text: tokens, keys, credentials, card numbers.

Every pattern runs in linear time: what it repeats it takes for good (possessive), or stops at a fixed length.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

__all__ = ["MASK", "card_number", "mask_cards", "mask_shapes"]

#: What stands in the place of a secret.
MASK: Final = "[redacted]"

_JWT: Final = re.compile(r"eyJ[\w-]*+(?:\.[\w-]*+)*+", re.ASCII)
_PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY")
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}KEY(?: BLOCK)?-----")
_USER_INFO: Final = re.compile(r"://([^\s/?#@:\"'<>\\]{0,512}):([^\s/?#@\"'<>\\]{1,512})@")
_SCHEME: Final = re.compile(
    r"(?i:\b(bearer|basic|token|negotiate|digest)[ \t]{1,4}+)([A-Za-z0-9._~+/=\-]{4,}+)"
)
_HEX_40: Final = re.compile(r"[0-9a-f]{40}\Z")
#: Words that follow "Bearer" in prose and challenges.
_PROSE: Final = re.compile(
    r"(?i:token|auth|realm|scheme|error|header|format|credential|prefix|challenge|shares?|bonds?)"
)

_KEYS: Final = re.compile(
    r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|gh[pousr]_[A-Za-z0-9]{20,}+|github_pat_\w{20,}+|glpat-[\w-]{20,}+"
    r"|[sr]k_(?:live|test)_\w{8,}+|whsec_[A-Za-z0-9+/=]{16,}+|sk-[\w-]{20,}+"
    r"|xox[a-z]-[\w-]{10,}+|xapp-[\w-]{10,}+|AIza[\w-]{30,}+|GOCSPX-[\w-]{20,}+|ya29\.[\w-]{20,}+"
    r"|SG\.[\w-]{16,}+\.[\w-]{16,}+|npm_[A-Za-z0-9]{30,}+|pypi-[\w-]{40,}+|hf_[A-Za-z0-9]{30,}+"
    r"|do[opr]_v1_[a-f0-9]{32,}+|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|dckr_pat_[\w-]{20,}+"
    r"|AGE-SECRET-KEY-1[0-9A-Z]{20,}+"
    r"|pbkdf2_\w{3,20}\$\d+\$[^\s\"'<>]++|argon2\$[^\s\"'<>]++|bcrypt\w{0,10}\$[^\s\"'<>]++)"
    r"|\$2[aby]\$\d\d\$[./A-Za-z0-9]{20,}+",
    re.ASCII,
)
_KEY_HINTS: Final = (
    "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "k_live_", "k_test_", "whsec_",
    "sk-", "xox", "xapp-", "AIza", "GOCSPX-", "ya29.", "SG.", "npm_", "pypi-", "hf_", "_v1_", "shpat_", "shpca_",
    "shppa_", "shpss_", "dckr_pat_", "AGE-SECRET", "pbkdf2_", "argon2$", "bcrypt", "$2a$", "$2b$", "$2y$",
)  # fmt: skip

_CARD_SHAPE: Final = (
    r"[0-9]{13,19}+|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}+|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5}+"
)
_CARD: Final = re.compile(
    rf"(?<![0-9A-Za-z.])(?<![0-9A-Za-z]-)(?:{_CARD_SHAPE})(?![0-9A-Za-z]|\.[0-9]|-[0-9A-Za-z])"
)
_CARD_IN_JSON: Final = re.compile(rf'"(?:[^"\\]|\\.)*+(?:"|\Z)|{_CARD.pattern}', re.DOTALL)
#: Length → first digits of cards of that length, so that ids and timestamps that pass Luhn by chance stay.
_ISSUERS: Final = {
    13: re.compile("4"),
    14: re.compile("3(?:0[0-5]|[689])"),
    15: re.compile("3[47]|2131|1800"),
    16: re.compile("4|5[0-8]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|6(?:[0245789]|3)|35|62"),
    17: re.compile("6|5[06-8]"),
    18: re.compile("6|5[06-8]"),
    19: re.compile("4|6|5[06-8]"),
}


def mask_shapes(text: str, lower: str) -> str:
    """Mask every secret that shows by its shape, card numbers aside.

    Args:
        text: free text.
        lower: the same with ASCII letters in lower case.
    """
    if "eyJ" in text:
        text = _JWT.sub(_mask_jwt, text)
    if "-----BEGIN" in text:
        text = _mask_pem(text)
    if "://" in text and "@" in text:
        text = _USER_INFO.sub(rf"://\1:{MASK}@", text)
    if (
        "bearer" in lower
        or "basic" in lower
        or "token " in lower
        or "negotiate" in lower
        or "digest" in lower
    ):
        text = _SCHEME.sub(_mask_scheme, text)
    if any(hint in text for hint in _KEY_HINTS):
        text = _KEYS.sub(MASK, text)
    return text


def mask_cards(text: str, *, json: bool = False) -> str:
    """Mask card numbers: right length, right first digits, right check digit.

    Args:
        text: free text, or JSON, where a card number that stands as a number becomes a string.
        json: whether it is JSON.
    """
    if _CARD.search(text) is None:
        return text
    return _CARD_IN_JSON.sub(_mask_card_in_json, text) if json else _CARD.sub(_mask_card, text)


def card_number(digits: str) -> bool:
    """Whether ``digits`` (spaces and dashes allowed) are a card number."""
    digits = digits.replace(" ", "").replace("-", "")
    issuer = _ISSUERS.get(len(digits))
    if issuer is None or issuer.match(digits) is None:
        return False
    total = sum(map(int, digits[-1::-2]))
    for digit in digits[-2::-2]:
        total += int(digit) * 2 if digit < "5" else int(digit) * 2 - 9
    return total % 10 == 0


def _mask_jwt(match: re.Match[str]) -> str:
    parts = match[0].split(".")
    if len(parts) >= 3 or (len(parts) == 2 and parts[1].startswith("eyJ")):
        return MASK
    return match[0]


def _mask_pem(text: str) -> str:
    """Cut out private keys, to the end of the text where the end of the key is missing."""
    kept: list[str] = []
    position = 0
    while (begin := _PEM.search(text, position)) is not None:
        end = _PEM_END.search(text, begin.end())
        kept += (text[position : begin.start()], MASK)
        position = len(text) if end is None else end.end()
    return "".join((*kept, text[position:]))


def _mask_scheme(match: re.Match[str]) -> str:
    scheme, value = match[1].lower(), match[2]
    if scheme == "basic":
        secret = _holds_colon(value)
    elif scheme == "token":
        secret = _HEX_40.match(value) is not None
    elif scheme == "bearer":
        secret = len(value) >= 6 and _PROSE.match(value) is None
    else:
        secret = len(value) >= 24
    return match[0][: match.start(2) - match.start()] + MASK if secret else match[0]


def _holds_colon(value: str) -> bool:
    """Whether ``value`` is base64 of ``user:password``, maybe with its end cut off."""
    value = value.rstrip("=")
    if len(value) % 4 == 1:
        value = value[:-1]
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return False


def _mask_card(match: re.Match[str]) -> str:
    return MASK if card_number(match[0]) else match[0]


def _mask_card_in_json(match: re.Match[str]) -> str:
    if match[0].startswith('"'):
        return _CARD.sub(_mask_card, match[0])
    return f'"{MASK}"' if card_number(match[0]) else match[0]
