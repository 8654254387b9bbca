"""Secrets that show by their shape, wherever they stand in a text: tokens, keys, credentials, card numbers.

Every pattern runs in linear time: what it repeats it takes for good (possessive), or stops at a fixed length. A
pattern runs only where a cheap look says that it could match.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

from otel_audit.redaction.callbacks import mask_callbacks
from otel_audit.redaction.marks import MASK, Marker
from otel_audit.redaction.names import fold

__all__ = ["SHAPE_HINT", "card_number", "mask_cards", "mask_shapes"]

_JWT_HINT: Final = re.compile("J(?<=eyJ)")
_JWT: Final = re.compile(r"eyJ[\w-]*+(?:\.[\w-]*+)*+", re.ASCII)
_PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY")
_PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}KEY(?: BLOCK)?-----")
#: JSON may write ``/`` as ``\/``; where the text is cut, what follows the colon may be a port.
_USER_INFO: Final = re.compile(r"(:\\?/\\?/[^\s/?#@:\"'<>\\\[\]]{0,256}):([^\s/?#@\"'<>\\]{1,512})@")
_USER_INFO_CUT: Final = re.compile(
    r"(:\\?/\\?/[^\s/?#@:\"'<>\\\[\]]{0,256}):(?![0-9]{1,5}\Z)([^\s/?#@\"'<>\\]{1,512})\Z"
)
#: A token alone: ``https://ghs_…@github.com/``. Names of users are shorter, or have no digit.
_USER_TOKEN: Final = re.compile(r"(:\\?/\\?/)(?=[A-Za-z_\-]*+[0-9])([\w\-]{20,256}+)@", re.ASCII)
_MAX_USER_INFO: Final = 800
#: What a database or a command line puts behind the name without a separator.
_BEHIND: Final = re.compile(
    r"((?:password|passphrase|identified by)\s{1,4}+')([^'\n]{1,200}+)(?=')"
    r"|(--(?:[a-z]{1,20}+-){0,3}+(?:password|passwd|token|secret|key)(?:['\"],\s?|[ =])['\"]?+)"
    r"([^\s'\",\]\-][^\s'\",\]]{0,200}+)",
    re.IGNORECASE,
)
_BEHIND_HINTS: Final = ("password '", "passphrase '", "identified by")

#: In lower-case text, and how many letters of the scheme stand before: bearer, basic, token, negotiate, digest.
_SCHEME_PLACES: Final = (
    (re.compile(r"b(?:earer|asic)[ \t]"), 0),
    (re.compile(r"k(?:en[ \t])(?<=token[ \t])"), 2),
    (re.compile(r"g(?:otiate|est)[ \t]"), 2),
)
_SCHEME: Final = re.compile(r"(bearer|basic|token|negotiate|digest)[ \t]{1,4}+([A-Za-z0-9._~+/=\-]{4,}+)", re.I)
_HEX_40: Final = re.compile(r"[0-9a-f]{40}\Z")
#: Words that follow "Bearer" in prose and in challenges.
_PROSE: Final = re.compile(
    r"token|auth|realm|scheme|error|header|format|credential|prefix|challenge|shares?|bonds?", re.I
)

_KEY_HINTS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"_(?:(?<=gh[pousr]_)|(?<=_pat_)|(?<=[sr]k_)(?:live|test)|(?<=npm_)|(?<=hf_)|(?<=_v1_)|(?<=shp[acps][tas]_)"
        r"|(?<=whsec_)|(?<=lin_api_)|(?<=gl(?:sa|pt)_)|(?<=glc_)|(?<=tkn_)|(?<=ntn_))",
        r"A(?:KIA|SIA|Iza|GE-S|TATT3|K-(?<=NRAK-))",
        r"G(?:(?<=SG)\.|OCSPX-)",
        r"x(?:ox.-|app-)",
        r"y(?:a29\.|pi-)",
        r"k-(?<=sk-)",
        r"gl[a-z]{2,5}-",
        r"v(?:s\.(?<=hvs\.))",
        r"K(?:U-(?<=HRKU-)|(?<=SK)[0-9a-f]{32})",
        r"q(?:0[a-z]{3}-)",
        r"p(?:i[0-9a-f]{32}(?<=dapi.{32}))",
        r"-(?:us[0-9]|[0-9a-f]{32})",
        r"//0(?<=1//0)",
        r"\$(?:(?<=\d\$)|(?<=pt\$)|2[aby]\$)",
    )
)
#: Addresses that let whoever knows them in.
_ADDRESS_HINTS: Final = ("slack.com/services/", "/api/webhooks/", ".org/bot")
_KEYS: Final = re.compile(
    r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|gh[pousr]_[A-Za-z0-9]{20,}+|github_pat_\w{20,}+|gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|oas|imt|ffct)-[\w-]{20,}+"
    r"|lin_api_[A-Za-z0-9]{30,}+|gl(?:sa|pt)_\w{30,}+|glc_[A-Za-z0-9+/=]{30,}+|pscale_tkn_[\w.-]{20,}+"
    r"|ntn_[A-Za-z0-9]{30,}+|hvs\.[\w-]{20,}+|NRAK-[A-Z0-9]{20,}+|HRKU-[\w-]{20,}+|ATATT3[\w=-]{40,}+"
    r"|sq0[a-z]{3}-[\w-]{20,}+|dapi[0-9a-f]{32}|SK[0-9a-f]{32}\b|key-[0-9a-f]{32}\b|[0-9a-f]{32}-us[0-9]{1,2}\b"
    r"|1//0[\w-]{30,}+|[c-n][0-9a-z]{5}-[0-9a-f]{32}(?![\w.-])"
    r"|[sr]k_(?:live|test)_\w{8,}+|whsec_[A-Za-z0-9+/=]{16,}+|sk-[\w-]{20,}+"
    r"|xox[a-z]-[\w-]{10,}+|xapp-[\w-]{10,}+|AIza[\w-]{30,}+|GOCSPX-[\w-]{20,}+|ya29\.[\w-]{20,}+"
    r"|SG\.[\w-]{16,}+\.[\w-]{16,}+|npm_[A-Za-z0-9]{30,}+|pypi-[\w-]{40,}+|hf_[A-Za-z0-9]{30,}+"
    r"|do[opr]_v1_[a-f0-9]{32,}+|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|dckr_pat_[\w-]{20,}+"
    r"|hooks\.slack\.com/services/[\w/]{8,}+|discord(?:app)?\.com/api/webhooks/[\w/\-]{8,}+|bot[0-9]{6,12}:[\w-]{30,}+"
    r"|AGE-SECRET-KEY-1[0-9A-Z]{20,}+"
    r"|(?:pbkdf2_\w{3,20}|argon2|bcrypt\w{0,10}|scrypt)\$[^\s\"'<>\\]{8,}+)"
    r"|\$2[aby]\$\d\d\$[./A-Za-z0-9]{20,}+",
    re.ASCII,
)

#: Finds, in lower-case text, whatever `mask_shapes` and `mask_cards` could find: one look at a short text.
SHAPE_HINT: Final = re.compile(
    r"eyj|----begin|/\\?/|b(?:earer|asic)[ \t]|ken[ \t]|(?:otiate|gest)[ \t]|_(?<=gh[pousr]_)|_pat_|k_(?:live|test)"
    r"|npm_|hf_|_v1_|(?<=shp)(?:at|ca|pa|ss)_|whsec_|akia|asia|aiza|age-s|sg\.|gocspx-|xox.-|xapp-|ya29\.|pypi-|sk-"
    r"|gl[a-z]{2,5}-|hvs\.|nrak-|hrku-|atatt3|sq0|dapi|sk[0-9a-f]{32}|-us[0-9]|-[0-9a-f]{32}|1//0"
    r"|bot[0-9]{6}|password\s+'|passphrase\s+'|identified by|--[a-z]"
    r"|lin_api|gl(?:sa|pt|c)_|_tkn_|ntn_|[?&;]code=|\$|[0-9]{4}(?:[0-9]{9}|[ \-][0-9]{4})"
)

#: Digits become 0, a dash becomes a space: then it costs little to see where a card number is possible.
_DIGITS: Final = bytes.maketrans(b"0123456789-", b"0000000000 ")
_RUN: Final = b"0" * 13
_GROUPS: Final = b"0000 0000"
_CARD_PLACE: Final = re.compile(rb"0000(?:0{9}0*+| 0000)")
_CARD: Final = re.compile(
    rb"(?<![0-9A-Za-z.%])(?<![0-9A-Za-z]-)"
    rb"(?:[0-9]{13,19}+|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,7}+|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5}+)"
    rb"(?![0-9A-Za-z]|\.[0-9]|-[0-9A-Za-z])"
)
#: Length → first digits of cards of that length, so that ids and timestamps that pass Luhn by chance stay.
_ISSUERS: Final = {
    13: re.compile(b"4"),
    14: re.compile(b"3(?:0[0-5]|[689])"),
    15: re.compile(b"3[47]|2131|1800"),
    16: re.compile(b"4|5[0-8]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[05]|6[02-57]"),
    17: re.compile(b"6[02-57]|5[06-8]"),
    18: re.compile(b"6[02-57]|5[06-8]"),
    19: re.compile(b"4|6[02-57]|5[06-8]"),
}
_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")
_ZERO: Final = ord("0")
_MAX_BLANKS: Final = 200
_MASK: Final = MASK.encode()
_AFTER_NUMBER: Final = re.compile(rb"\s*+(?:[\],}]|\Z)")
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)', re.DOTALL)


def mask_shapes(text: str, lower: str, marker: Marker) -> str:
    """Mask every secret that shows by its shape, card numbers aside.

    Args:
        text: free text.
        lower: the same, or what it was before other secrets were masked, with ASCII letters in lower case.
        marker: makes what stands in the place of a secret.
    """
    mark = marker.mark
    # One character is looked for at memory speed, two take twenty times as long.
    if "=" in lower and "code=" in lower:
        text = mask_callbacks(text, lower, marker)
    if _JWT_HINT.search(text) is not None:
        text = _JWT.sub(lambda found: _mask_jwt(found, marker), text)
    dashes = "--" in text
    if dashes and "-----BEGIN" in text:
        text = _mask_pem(text, marker)
    if "/" in text:
        text = _mask_user_info(text, marker)
    if dashes or ("'" in text and any(hint in lower for hint in _BEHIND_HINTS)):
        text = _BEHIND.sub(
            lambda found: f"{found[1]}{mark(found[2])}" if found[1] else f"{found[3]}{mark(found[4])}", text
        )
    for pattern, offset in _SCHEME_PLACES:
        if pattern.search(lower) is not None:
            text = _mask_schemes(text, pattern, offset, marker)
    if "/" in text and "//" in text and any(hint in lower for hint in _ADDRESS_HINTS):
        return _KEYS.sub(lambda found: mark(found[0]), text)
    for hint in _KEY_HINTS:
        if hint.search(text) is not None:
            return _KEYS.sub(lambda found: mark(found[0]), text)
    return text


def _mask_user_info(text: str, marker: Marker) -> str:
    """Mask what stands before the host in an address, also where the text is cut before the ``@``."""
    mark = marker.mark
    if "@" in text and ("://" in text or ":\\/" in text):
        text = _USER_INFO.sub(lambda found: f"{found[1]}:{mark(found[2])}@", text)
        text = _USER_TOKEN.sub(lambda found: f"{found[1]}{mark(found[2])}@", text)
    if "//" in (tail := text[-_MAX_USER_INFO:]):
        text = text[:-_MAX_USER_INFO] + _USER_INFO_CUT.sub(lambda found: f"{found[1]}:{mark(found[2])}", tail)
    return text


def mask_cards(text: str, marker: Marker, *, json: bool = False) -> str:
    """Mask card numbers: right length, right first digits, right check digit.

    Args:
        text: free text, or JSON, where a card number that stands as a number becomes a string.
        marker: makes what stands in the place of a card number.
        json: whether it is JSON.
    """
    data = text.encode("utf-8", "surrogatepass")
    digits = data.translate(_DIGITS)
    if _RUN not in digits and _GROUPS not in digits:
        return text
    places = (_CARD.match(data, place.start()) for place in _CARD_PLACE.finditer(digits))
    cards = [card.span() for card in places if card is not None and _is_card(card[0])]
    if not cards:
        return text
    kept: list[bytes] = []
    done = 0
    for (start, end), is_number in zip(cards, _are_numbers(data, cards, json=json), strict=True):
        mark = marker.mark(data[start:end].decode()).encode() if marker.keyed else _MASK
        kept += (data[done:start], b'"%s"' % mark if is_number else mark)
        done = end
    return b"".join((*kept, data[done:])).decode("utf-8", "surrogatepass")


def card_number(written: str) -> bool:
    """Whether ``written`` (digits) is a card number."""
    return _is_card(written.encode())


def _is_card(written: bytes) -> bool:
    """Whether ``written`` (ASCII digits, maybe with spaces and dashes) is a card number."""
    digits = written.translate(None, b" -")
    issuer = _ISSUERS.get(len(digits))
    if issuer is None or issuer.match(digits) is None:
        return False
    total = sum(digits[-1::-2]) + sum(digits[-2::-2].translate(_DOUBLED)) - _ZERO * len(digits)
    return total % 10 == 0


def _mask_jwt(match: re.Match[str], marker: Marker) -> str:
    parts = match[0].split(".")
    if len(parts) >= 3 or (len(parts) == 2 and parts[1].startswith("eyJ")):
        return marker.mark(match[0].rstrip("."))
    return match[0]


def _mask_pem(text: str, marker: Marker) -> str:
    """Cut out private keys, to the end of the text where the end of the key is missing."""
    kept: list[str] = []
    position = 0
    while (begin := _PEM.search(text, position)) is not None:
        end = _PEM_END.search(text, begin.end())
        stop = len(text) if end is None else end.end()
        kept += (text[position : begin.start()], marker.mark(text[begin.start() : stop]))
        position = stop
    return "".join((*kept, text[position:]))


def _mask_schemes(text: str, pattern: re.Pattern[str], offset: int, marker: Marker) -> str:
    kept: list[str] = []
    done = 0
    for place in pattern.finditer(fold(text)):
        match = _SCHEME.match(text, max(0, place.start() - offset))
        if match is not None and match.start() >= done and _is_credential(match[1].lower(), match[2]):
            kept += (text[done : match.start(2)], marker.mark(match[2]))
            done = match.end()
    return "".join((*kept, text[done:]))


def _is_credential(scheme: str, value: str) -> bool:
    if scheme == "basic":
        return _holds_colon(value)
    if scheme == "token":
        return _HEX_40.match(value) is not None
    if scheme == "bearer":
        return len(value) >= 6 and _PROSE.match(value) is None
    return len(value) >= 24


def _holds_colon(value: str) -> bool:
    """Whether ``value`` is base64 of ``user:password``, maybe with its end cut off."""
    value = value.rstrip("=").replace("-", "+").replace("_", "/")
    if len(value) % 4 == 1:
        value = value[:-1]
    try:
        return b":" in base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return False


def _are_numbers(data: bytes, spans: list[tuple[int, int]], *, json: bool) -> Iterator[bool]:
    """Tell of each span whether it stands as a number of its own in JSON, not inside a string."""
    string_end = position = 0
    for start, end in spans:
        if not json or data[start - 1 : start] == b'"':  # most stand in strings of their own
            yield False
            continue
        before = data[max(0, start - _MAX_BLANKS) : start].rstrip()
        if not (before[-1:] in b"[,:" if before else start <= _MAX_BLANKS) or _AFTER_NUMBER.match(data, end) is None:
            yield False
            continue
        while string_end <= start and (string := _STRING.search(data, position, start + 1)) is not None:
            string = _STRING.match(data, string.start())  # to its real end
            position = string_end = string.end()  # type: ignore[union-attr]  # it matched just now
        yield string_end <= start
