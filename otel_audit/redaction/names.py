"""Which names are names of secrets: of JSON keys, form fields, query and route parameters, headers, attributes.

A name is split into words at case changes, digits and punctuation, so that ``newPassword``, ``NEW-PASSWORD`` and
``new_password2`` are one. What merely speaks about a secret (``token_type``, ``password_changed_at``) is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

__all__ = ["HINTS", "Names", "compact", "words"]

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+[a-z]*")

#: Parts that make any name a secret's, in the name written as one lower-case word.
_SECRET: Final = re.compile(
    r"passw|passphrase|passcode|pwd|secret|token|credential|cookie|csrf|xsrf|authoriz|authoris|bearer|jwt"
    r"|sessionid|sessionkey|sessid|apikey|privatekey|accesskey|signingkey|encryptionkey|authkey|sshkey|masterkey"
    r"|sharedkey|subscriptionkey|accountkey|activationkey|confirmationkey|resetkey|verificationkey|licensekey"
    r"|cardnumber|creditcard|debitcard|cardno|ccnumber|securitycode|verificationcode|activationcode|resetcode"
    r"|recoverycode|backupcode|authcode|accesscode|mfacode|smscode|onetimecode|socialsecurity|authheader"
    r"|basicauth|httpauth|proxyauth|wachtwoord|passwor|kennwort|motdepasse|contrase|senha"
)

#: Words that make a name a secret's when the name is that word alone, or ends with it.
_LAST: Final = frozenset({"pin", "otp", "totp", "cvv", "cvc", "cvv2", "ssn", "pw"})
_WHOLE: Final = frozenset({"access", "refresh", "pass", "pan", "xauth"})
_PASS_OF: Final = frozenset(
    {
        "user",
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
    }
)

#: Words after which, or before which, a name tells about a secret and is none.
_ABOUT_LAST: Final = frozenset(
    """type types count counts counter at on date time expires expiry expired expiration in ttl lifetime age length len
    size policy required enabled disabled changed valid invalid verified status strength version algorithm alg scope
    scopes issuer usage limit limits used consent accepted domain samesite secure httponly field fields name names
    label placeholder validators validation format prefix backend class classes url uri endpoint per ratio rate index
    reset""".split()
)
_ABOUT_FIRST: Final = frozenset("is has had max min num total count n requires needs must can".split())
_NOT_SECRETS: Final = re.compile(r"secretar|tokeni[sz]|tokenom|cookiecutter")

#: What `pairs` looks for in lower-case text before it looks closer: each secret's name contains one of these.
HINTS: Final = (
    "pass", "pwd", "secret", "token", "credential", "cookie", "csrf", "xsrf", "authori", "bearer", "jwt", "sess",
    "key", "card", "code", "cc", "social", "auth", "wachtw", "kennw", "motde", "mot", "contrase", "senha",
    "pin", "otp", "cvv", "cvc", "ssn", "access", "refresh", "pan", "pw",
)  # fmt: skip

_MAX_CACHED: Final = 100  # characters


class Names:
    """Tells the names of secrets from others; immutable and thread-safe."""

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self.extra = frozenset(compact(name) for name in extra)
        self._cached = lru_cache(maxsize=4096)(self._is_secret)

    def secret(self, name: str) -> bool:
        """Whether ``name`` is a secret's; in ``a[b][c]`` one secret part is enough."""
        return self._cached(name) if len(name) <= _MAX_CACHED else self._is_secret(name)

    def _is_secret(self, name: str) -> bool:
        if "%" in name:
            name = unquote(name)
        if "[" in name:
            return any(self._is_secret(part) for part in re.split(r"[\[\]]+", name) if part)
        parts = words(name)
        joined = "".join(parts)
        return joined in self.extra or _built_in(parts, joined)


def words(name: str) -> list[str]:
    """Split ``name`` into lower-case words."""
    return [word.lower() for word in _WORD.findall(name)]


def compact(name: str) -> str:
    """Return ``name`` as one lower-case word without digits and punctuation."""
    return "".join(words(name))


def _built_in(parts: list[str], joined: str) -> bool:
    if not parts:
        return False
    if _SECRET.search(joined) is None:
        last = parts[-1]
        return (
            last in _LAST or joined in _WHOLE or (last == "pass" and len(parts) > 1 and parts[-2] in _PASS_OF)
        )
    if _NOT_SECRETS.search(joined):
        return False
    if len(parts) > 1 and (parts[-1] in _ABOUT_LAST or parts[0] in _ABOUT_FIRST):
        return False
    return not (len(parts) > 1 and parts[-1] == "id" and "session" not in parts)
