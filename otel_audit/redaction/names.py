"""Which names are names of secrets: of JSON keys, form fields, query and route parameters, headers, attributes.

A name is split into words at case changes, digits and punctuation, so that ``newPassword``, ``NEW-PASSWORD`` and
``new_password2`` are one. What merely speaks about a secret (``token_type``, ``password_changed_at``) is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

__all__ = ["Names", "fold"]

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+[a-z]*")
_BRACKETS: Final = re.compile(r"[\[\]]+")
#: A letter, as JSON may write it. A run of backslashes is looked at from its beginning alone, as clients write names.
_ESCAPED: Final = re.compile(r"(?<!\\)\\++u([0-9a-fA-F]{4})")
_MAX_CACHED: Final = 100  # characters

#: Parts that make any name a secret's, in the name written as one lower-case word.
_SECRET: Final = re.compile(
    r"passw|passphrase|passcode|pwd|secret|token|credential|cookie|csrf|xsrf|authori[sz]|jwt|senha|contrase"
    r"|kennwort|motdepass|(?:amz|goog)signature|sess(?:ion)?(?:id|key)"
    r"|(?:api|private|access|signing|encryption|auth|ssh|master|shared|subscription|account)keys?"
    r"|(?:activation|confirmation|reset|verification|license|recovery|backup)key"
    r"|(?:security|verification|activation|reset|recovery|backup|auth|access|mfa|sms|otp|pin|onetime|scratch|factor"
    r"|authenticator|login|signin|magic|device)code|\Afacode|passkey|codeverifier|saml(?:response|request)"
    r"|relaystate"
    r"|cardn(?:o|um)|creditcard|debitcard|ccnumber|socialsecurity|(?:basic|http|proxy)auth|authheader"
)
#: Words that make a name a secret's when it ends with them, or is nothing else, or tells whose they are.
_LAST: Final = frozenset({"pin", "otp", "totp", "cvv", "cvc", "ssn", "pw"})
_WHOLE: Final = frozenset({"access", "refresh", "pass"})
_PASS_OF: Final = frozenset(
    [
        "user",
        "old",
        "new",
        "current",
        "db",
        "database",
        "smtp",
        "mail",
        "email",
        "ftp",
        "login",
        "admin",
        "root",
        "account",
        "proxy",
        "redis",
    ]
)

#: Words at the end, or at the beginning, with which a name tells about a secret and is none.
_ABOUT_LAST: Final = frozenset(
    """type types count counts counter at on date time expires expiry expired expiration in ttl lifetime age length
    len size policy required enabled disabled changed valid invalid verified status strength version algorithm alg
    scope scopes issuer usage limit limits used consent accepted domain samesite secure httponly field fields name
    names label placeholder validators validation format prefix backend class classes url uri endpoint per ratio rate
    index reset exempt pair form mismatch incorrect generator hasher hashers error errors help""".split()  # noqa: SIM905  # a table of words
)
_ABOUT_FIRST: Final = frozenset(["is", "has", "had", "max", "min", "num", "total", "count", "n", "requires", "needs"])
_COUNTED: Final = frozenset(["input", "output", "prompt", "completion", "cached", "reasoning", "max", "total", "used"])
_OTHER_WORDS: Final = re.compile(r"secretar|tokeni[sz]|tokenom|cookiecutter")

#: Finds, in lower-case text, a place inside every name that `_SECRET`, `_LAST` and `_WHOLE` know, whatever separates
#: its words, and little else. Each begins with one letter that is rare in text: ``re`` skips to it at memory speed,
#: which makes text without secrets ten times cheaper than one pattern with every name would.
_PLACES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"k(?:en(?<=token)|ie(?<=cookie)|ey(?:(?<=[iesgnhrdtpy]key)|(?<=[iesgnhrdtpy][_\-. ]key))|ennwort)",
        r"c(?:redential|redit[_\-. ]?card|ard(?:[_\-. ]?n|(?<=debitcard)|(?<=debit.card))|v[vc](?![a-z])|ontrase"
        r"|c[_\-. ]?number|ret(?<=secret)(?!ar)|ess(?<=access)(?<![a-z]access)(?![a-z_\-.])|ial(?<=social)"
        r"|ode(?:(?<=[a-z]code)|(?<=[a-z][_\-. ]code)))",
        r"p(?:ass(?:e(?![a-z])|(?![abd-oq-vx-z]))|w(?:d|(?![a-z]))|in(?![a-z])|(?<=otp)(?![a-z])"
        r"|onse(?:(?<=samlresponse)|(?<=saml[_\-. ]response)))",
        r"j(?:wt)",
        r"v(?:erifier(?:(?<=codeverifier)|(?<=code[_\-. ]verifier)))",
        r"y(?:(?<=relay)[_\-. ]?state)",
        r"q(?:uest(?:(?<=samlrequest)|(?<=saml[_\-. ]request)))",
        r"s(?:rf(?<=[cx]srf)|n(?<=ssn)(?![a-z])|ess(?:ion)?[_\-. ]?(?:id|key)|enha|ignature(?<=[zg].signature))",
        r"h(?:(?<=auth)(?:ori[sz]|[_\-. ]?header|(?<=[cpy]auth)|(?<=[cpy].auth))"
        r"|(?<=refresh)(?<![a-z]refresh)(?![a-z_\-.]))",
    )
)


class Names:
    """Tells the names of secrets from others; immutable and thread-safe.

    Args:
        extra: names beside the built-in ones; only the whole name counts, case and punctuation do not.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self._extra = frozenset(filter(None, map(_alphanumeric, extra)))
        self._places = (*_PLACES, *_extra_places(self._extra))
        self._hint = re.compile("|".join(place.pattern for place in self._places), _flags(self._extra))
        self._cached = lru_cache(maxsize=4096)(self._is_secret)

    def secret(self, name: str) -> bool:
        """Whether ``name`` is a secret's; in ``a[b][c]`` one secret part is enough."""
        return self._cached(name) if len(name) <= _MAX_CACHED else self._is_secret(name)

    def suspected(self, lower: str) -> bool:
        """Whether there is such a place; the quicker question for a short text, the slower one for a long."""
        return self._hint.search(lower) is not None

    def places(self, lower: str) -> list[int]:
        """Return, in order, a position inside every secret's name in a text that went through `fold`."""
        found = [match.start() for pattern in self._places for match in pattern.finditer(lower)]
        found.sort()
        return found

    def _is_secret(self, name: str) -> bool:
        if "%" in name:
            name = unquote(name)
        if "\\u" in name:
            name = _ESCAPED.sub(lambda letter: chr(int(letter[1], 16)), name)
        if "[" in name:
            return any(self._is_secret(part) for part in _BRACKETS.split(name) if part)
        if self._extra and _alphanumeric(name) in self._extra:
            return True
        return _is_built_in([word.lower() for word in _WORD.findall(name)])


def fold(text: str) -> str:
    """Return ``text`` with ASCII letters in lower case: every character stays at its place."""
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def _is_built_in(words: list[str]) -> bool:
    if not words:
        return False
    name, last, several = "".join(words), words[-1], len(words) > 1
    if _SECRET.search(name) is None:
        return last in _LAST or name in _WHOLE or (last == "pass" and several and words[-2] in _PASS_OF)
    if _OTHER_WORDS.search(name) is not None:
        return False
    return not (several and _tells_about(words))


def _tells_about(words: list[str]) -> bool:
    first, last = words[0], words[-1]
    if last in _ABOUT_LAST or first in _ABOUT_FIRST:
        return True
    if last == "tokens":
        return words[-2] in _COUNTED
    return last == "id" and not any(word.startswith(("sess", "secret")) for word in words)


def _alphanumeric(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _extra_places(extra: frozenset[str]) -> Iterator[re.Pattern[str]]:
    """Yield patterns that find the site's own names with any punctuation between their letters."""
    for name in sorted(extra):
        yield re.compile(r"[_\-. ]?".join(map(_letter, name)), _flags([name]))


def _letter(letter: str) -> str:
    """Return a pattern for a letter, which JSON may have escaped when it is no ASCII."""
    if letter.isascii():
        return re.escape(letter)
    cases = sorted({case for case in (letter, letter.upper()) if len(case) == 1 and case <= "\uffff"})
    return "|".join(["(?:" + re.escape(letter), *(rf"(?<!\\)\\++u{ord(case):04x}" for case in cases)]) + ")"


def _flags(names: Iterable[str]) -> re.RegexFlag:
    return re.NOFLAG if all(map(str.isascii, names)) else re.IGNORECASE  # `fold` leaves other letters as they are
