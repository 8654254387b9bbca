"""What counts as a secret, and where it is found: names, text, query strings, headers, routes, objects."""

from __future__ import annotations

import datetime
import enum
import json
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.http import QueryDict
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe

from otel_audit.redaction import MASK, Redactor

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyX2lkIjoxfQ.c2lnbmF0dXJlLXRoYXQtaXMtbG9uZw"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7bq\nabc/def+ghi=\n-----END RSA PRIVATE KEY-----"

redactor = Redactor()

SECRET_NAMES = [
    "password", "PASSWORD", "Password", "passwd", "pwd", "pw", "db_pw", "user_pwd", "passphrase", "passcode",
    "pass-word", "new_password2", "newPassword", "NEW-PASSWORD", "passwordConfirmation", "password_hash",
    "DB_PASSWORD", "smtp_pass", "secret", "client_secret", "clientSecret", "CLIENT-SECRET", "secret_key",
    "SECRET_ID", "token", "access_token", "accessToken", "refreshtoken", "X-Auth-Token", "csrf_token",
    "tokens", "id_token", "access", "refresh", "pass", "csrfmiddlewaretoken", "X-CSRFToken", "xsrf",
    "authorization", "Proxy-Authorization", "HTTP_AUTHORIZATION", "http.request.header.authorization",
    "cookie", "Set-Cookie", "HTTP_COOKIE", "cookies", "sessionid", "session_id", "sessionId", "session_key",
    "JSESSIONID", "api_key", "apiKey", "API-KEY", "apikey", "X-Api-Key", "api_keys", "private_key",
    "access_key", "signing.key", "subscription key", "activation_key", "otp", "totp", "user_otp", "pin",
    "PIN", "card_pin", "cvv", "cvv2", "cvc", "card_number", "cardNumber", "card no", "credit_card",
    "debit-card", "cc_number", "ssn", "social_security_number", "security_code", "verificationCode",
    "backup-code", "credentials", "jwt", "senha", "nova_senha", "contraseña", "passwort", "kennwort",
    "mot_de_passe", "basic_auth", "proxyAuth", "X-Amz-Signature", "a[password]", "user[0][token]",
    "password[]", "a%5Bpassword%5D", "p%61ssword",
]  # fmt: skip

ORDINARY_NAMES = [
    "token_type", "tokenType", "token_count", "max_tokens", "total_tokens", "output_tokens", "description",
    "pinned", "shipping", "author", "authors", "authenticated", "auth", "authority", "password_changed_at",
    "passwordChangedAt", "is_password_set", "has_token", "expires_in", "key", "code", "status_code",
    "country_code", "postcode", "secretary", "secretariat", "passenger", "passport", "compass", "card",
    "cards", "discard", "session", "session_count", "accessory", "access_level", "refresh_rate", "public",
    "keyword", "monkey", "primary_key", "foreign_key", "id", "uuid", "name", "tokenizer", "cookie_consent",
    "cookie_domain", "csrf_exempt", "user", "username", "email", "ticket", "opinion", "spin", "access_key_id",
    "token_id", "", "0", "___", "ключ", "route", "method",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_name_of_a_secret_is_recognised_in_any_spelling(name: str) -> None:
    assert redactor.secret_key(name)


@pytest.mark.parametrize("name", ORDINARY_NAMES)
def test_name_that_only_resembles_one_is_ordinary(name: str) -> None:
    assert not redactor.secret_key(name)


@pytest.mark.parametrize("name", [name for name in SECRET_NAMES if "%61" not in name])
def test_value_of_every_secret_name_is_masked_in_json_text(name: str) -> None:
    document = json.dumps({"first": 1, name: "hunter2", "last": [1, 2]}, ensure_ascii=False)

    masked = redactor.text(document)

    assert json.loads(masked) == {"first": 1, name: MASK, "last": [1, 2]}


@pytest.mark.parametrize("name", ORDINARY_NAMES)
def test_value_of_ordinary_name_stays_in_json_text(name: str) -> None:
    document = json.dumps({name: "hunter2", "n": 1}, ensure_ascii=False)

    assert redactor.text(document) is document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"got {JWT}, refused", "got [redacted], refused"),
        (f"x{JWT}", "x[redacted]"),
        (JWT[:60], MASK),
        ("eyJub3QiOiJhIHRva2VuIn0", "eyJub3QiOiJhIHRva2VuIn0"),
        ("Bearer abc123DEF456", f"Bearer {MASK}"),
        ("'bearer   sup3rs3cret'", f"'bearer   {MASK}'"),
        ("Bearer token is missing", "Bearer token is missing"),
        ('WWW-Authenticate: Bearer realm="api"', 'WWW-Authenticate: Bearer realm="api"'),
        ("Basic YW5uYTpodW50ZXIy", f"Basic {MASK}"),
        ("Basic YW5uYTpodW50ZXI", f"Basic {MASK}"),
        ("Basic -_8_OmE=", f"Basic {MASK}"),
        ("Basic a~b.c-d", "Basic a~b.c-d"),
        ("Negotiate YIIJvwYGKwYBBQUCoIIJszCCCa+gJDAi", f"Negotiate {MASK}"),
        ("Digest algorithm", "Digest algorithm"),
        ("Basic understanding of chemistry", "Basic understanding of chemistry"),
        ("Token 9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b", f"Token {MASK}"),
        ("Token budget exceeded", "Token budget exceeded"),
        (f"key:\n{PEM}\nend", f"key:\n{MASK}\nend"),
        (PEM[:60], MASK),
        ("-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----"),
        ("postgres://anna:hunter2@db/shop", f"postgres://anna:{MASK}@db/shop"),
        ("redis://:hunter2@cache:6379/0", f"redis://:{MASK}@cache:6379/0"),
        ("https:\\/\\/anna:hunter2@host\\/", f"https:\\/\\/anna:{MASK}@host\\/"),
        ("ssh://git@github.com/x", "ssh://git@github.com/x"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("AKIAIOSFODNN7EXAMPLE", MASK),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", MASK),
        ("key sk_live_4eC39HqLyjWDarjtT1zdp7dc.", f"key {MASK}."),
        ("xoxb-123456789012-abcdefghijkl", MASK),
        ("AIzaSyA-1234567890abcdefghijklmnopqrstuv", MASK),
        ("glpat-abcdefghij0123456789", MASK),
        ("SG.abcdefghijklmnopqrstuv.abcdefghijklmnopqrstuvwxyz0123456789abcdefg", MASK),
        ("pbkdf2_sha256$870000$c2FsdA$aGFzaGhhc2g=", MASK),
        ("argon2$argon2id$v=19$m=102400,t=2,p=8$c2FsdA$aGFzaA", MASK),
        ("$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234", MASK),
        ("costs $5 and 2$", "costs $5 and 2$"),
    ],
)
def test_secret_shows_by_its_shape(text: str, expected: str) -> None:
    assert redactor.text(text) == expected


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "5500-0000-0000-0004",
        "378282246310005",
        "3782 822463 10005",
        "6011111111111117",
    ],
)
def test_card_number_is_masked(number: str) -> None:
    assert redactor.text(f"paid with {number}, thanks") == f"paid with {MASK}, thanks"


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",
        "550e8400-e29b-41d4-a716-446655440000",
        "41111111-1111-1111-1111-111111111111",
        "1732447017123",
        "1732447017123456",
        "1732447017123456789",
        "0.4111111111111111",
        "order-4111111111111111",
        "4111111111111111-a",
        "ab4111111111111111",
        "2026-11-24T10:00:00.123456+00:00",
        "+49 170 1234567",
        "4111 1111 1111",
        "4" * 5000,
        "4111 1111 1111-1111",
    ],
)
def test_ordinary_number_is_no_card(text: str) -> None:
    assert redactor.text(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password=hunter2 host=db", f"password={MASK} host=db"),
        ("password = 'hunter2'", f"password = '{MASK}'"),
        ('password="hunter2", n=1', f'password="{MASK}", n=1'),
        ("password=hun,ter2", f"password={MASK}"),
        ("a: 1\n  - password: two words # b\nc: 2", f"a: 1\n  - password: {MASK}\nc: 2"),
        ("password: two words, user: anna", f"password: {MASK}, user: anna"),
        ("Error: bad token: abc is no token", f"Error: bad token: {MASK} is no token"),
        ("password: it's", f"password: {MASK}"),
        ("login(password='hunter2', n=1)", f"login(password='{MASK}', n=1)"),
        ("User(name='x', token=UUID('123'), n=1)", f"User(name='x', token={MASK}, n=1)"),
        ("{'password': 'hunter2', 'n': 1}", f"{{'password': '{MASK}', 'n': 1}}"),
        ("{'password': [\"a'b\", ']'], 'n': 1}", f"{{'password': '{MASK}', 'n': 1}}"),
        ("<QueryDict: {'password': ['hunter2']}>", f"<QueryDict: {{'password': '{MASK}'}}>"),
        ("{'token': <Token: abc def>, 'n': 1}", f"{{'token': '{MASK}', 'n': 1}}"),
        ("(b'authorization', b'Basic abc')", f"(b'authorization', b'{MASK}')"),
        ("['password', 'username']", "['password', 'username']"),
        ("token => abc", f"token => {MASK}"),
        ("token := abc", f"token := {MASK}"),
        ("if token == other:", "if token == other:"),
        ("if token != 'x'", "if token != 'x'"),
        ("Token::new", "Token::new"),
        ("secret://vault/path", "secret://vault/path"),
        ("password is required", "password is required"),
        ("password=", "password="),
        ('{"password": ""}', '{"password": ""}'),
        ('{"password": null, "token": true}', '{"password": null, "token": true}'),
        ("password=[redacted]", "password=[redacted]"),
        ("Authorization: Digest a=b, c=d\nHost: x", f"Authorization: {MASK}\nHost: x"),
        ("Cookie: a=b; c=d\r\nHost: x", f"Cookie: {MASK}\r\nHost: x"),
        ("HTTP_COOKIE: a=b; c=d", f"HTTP_COOKIE: {MASK}"),
        ("Authorization: ", "Authorization: "),
        ("sessionid=abc; theme=dark", f"sessionid={MASK}; theme=dark"),
        ("https://x/?a=1&token=abc&b=2", f"https://x/?a=1&token={MASK}&b=2"),
        ("token: Bearer abc", f"token: {MASK}"),
        ("api key: abc, and so on", f"api key: {MASK}, and so on"),
        ("card number: 12-34", f"card number: {MASK}"),
        ("    token = jwt.encode(\n  File x", f"    token = {MASK}\n  File x"),
        (
            '    raise ValueError("bad token: " + x)\n    y = "z"',
            '    raise ValueError("bad token: " + x)\n    y = "z"',
        ),
        ("    token = request.data['token']\n", f"    token = {MASK}\n"),
        ('{"msg": "enter your password: ", "x": "y"}', '{"msg": "enter your password: ", "x": "y"}'),
        ('    if name == "token":\n        return 1', '    if name == "token":\n        return 1'),
        ('"token":\n  "abc"', f'"token":\n  "{MASK}"'),
        ('"pin":\n  1234', f'"pin":\n  "{MASK}"'),
        ("Change password: %s", "Change password: %s"),
        ("Key (token)=(abc) already exists.", f"Key (token)={MASK} already exists."),
        ("Key (user_id, token)=(1, abc) exists", f"Key (user_id, token)={MASK} exists"),
        ("Key (token, user_id)=(abc, 1) exists", f"Key (token, user_id)={MASK} exists"),
        ("Duplicate entry 'abc' for key 'api_key'", f"Duplicate entry '{MASK}' for key 'api_key'"),
        ("Duplicate entry 'abc' for key 'name'", "Duplicate entry 'abc' for key 'name'"),
        ("<a><password>x</password><b>y</b></a>", f"<a><password>{MASK}</password><b>y</b></a>"),
        ("<ns:Password a='1'>x</ns:Password>", f"<ns:Password a='1'>{MASK}</ns:Password>"),
        ("<password/><b>y</b>", "<password/><b>y</b>"),
        ("Unexpected <token> here", "Unexpected <token> here"),
        ('<user password="x" name="y">', f'<user password="{MASK}" name="y">'),
    ],
)
def test_value_beside_a_secret_name_is_masked_in_any_notation(text: str, expected: str) -> None:
    assert redactor.text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r'{"a": "{\"password\": \"hun\\\"ter2\", \"n\": 1}"}', rf'{{"a": "{{\"password\": \"{MASK}\", \"n\": 1}}"}}'),
        (r'{"a": "{\"pin\": 1234, \"n\": 1}"}', rf'{{"a": "{{\"pin\": \"{MASK}\", \"n\": 1}}"}}'),
        (r'{"a": "{\"token\": [\"x\", 1]}", "b": 2}', rf'{{"a": "{{\"token\": \"{MASK}\"}}", "b": 2}}'),
        (r'{"a": "{\"token\": [\"x"}', rf'{{"a": "{{\"token\": \"{MASK}\""}}'),
        (
            r'{"a": "{\"b\": \"{\\\"password\\\": \\\"x\\\"}\"}"}',
            rf'{{"a": "{{\"b\": \"{{\\\"password\\\": \\\"{MASK}\\\"}}\"}}"}}',
        ),
        (r'{"pass\u0077ord": "hunter2", "n": 1}', f'{{"password": "{MASK}", "n": 1}}'),
        (r'{"a": "{\u0022password\u0022: \u0022x\u0022}"}', rf'{{"a": "{{\"password\": \"{MASK}\"}}"}}'),
        (r'{"a": "{\"pass\\u0077ord\": \"x\"}"}', rf'{{"a": "{{\"password\": \"{MASK}\"}}"}}'),
        (r'{"a": "\u0041\u0042", "n": 1}', r'{"a": "\u0041\u0042", "n": 1}'),
        ('{"Password (again)": "x", "n": 1}', f'{{"Password (again)": "{MASK}", "n": 1}}'),
        (r'{"password": "x\" y", "n": 1}', f'{{"password": "{MASK}", "n": 1}}'),
    ],
)
def test_json_in_json_and_escapes_hide_nothing(text: str, expected: str) -> None:
    assert redactor.text(text) == expected


def test_sites_own_names_count_in_any_spelling() -> None:
    site = Redactor(["cpf", "birthDate", "пароль", "2fa"])

    text = '{"CPF": "1", "birth_date": "2", "Birth-Date": "3", "ПАРОЛЬ": "4", "2FA": "5", "birthplace": "6", "fa": "7"}'

    assert json.loads(site.text(text)) == {
        "CPF": MASK, "birth_date": MASK, "Birth-Date": MASK, "ПАРОЛЬ": MASK, "2FA": MASK, "birthplace": "6", "fa": "7",
    }  # fmt: skip


def test_sites_own_name_without_letters_matches_nothing() -> None:
    assert Redactor(["", "--"]).text('{"a": 1, "--": 2}') == '{"a": 1, "--": 2}'


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("", ""),
        ("a=1&b=%20x;c=+", "a=1&b=%20x;c=+"),
        ("a=1&token=x&b=2", f"a=1&token={MASK}&b=2"),
        ("token=x;b=2&&", f"token={MASK};b=2&&"),
        ("p%61ssword=x", f"p%61ssword={MASK}"),
        ("a[password]=x&a%5Btoken%5D=y&a[name]=z", f"a[password]={MASK}&a%5Btoken%5D={MASK}&a[name]=z"),
        ("token", "token"),
        ("token=", "token="),
        ("token=a=b", f"token={MASK}"),
        (JWT, MASK),
        (f"x={JWT}&y=1", f"x={MASK}&y=1"),
        ("next=%2Freset%3Ftoken%3Dabc&n=1", f"next=/reset?token={MASK}&n=1"),
        ("next=%252Freset%253Ftoken%253Dabc&n=1", f"next=%252Freset%253Ftoken%253D{MASK}&n=1"),
        ("a=%2570assword%253Dx&n=1", f"a=password={MASK}&n=1"),
        ("n=token%3Dabc%20%2570in%253D1&n=1", f"n=token={MASK}+%2570in%253D{MASK}&n=1"),
        ("card=4111+1111+1111+1111&n=1", f"card={MASK}&n=1"),
        ("id=550e8400-e29b-41d4-a716-446655440000", "id=550e8400-e29b-41d4-a716-446655440000"),
        ("token_type=x&author=y", "token_type=x&author=y"),
        ("q=100%25&r=%ZZ", "q=100%25&r=%ZZ"),
    ],
)
def test_query_string_keeps_everything_but_its_secrets(raw: str, expected: str) -> None:
    assert redactor.query(raw) == expected


@pytest.mark.parametrize("hidden", ["p=1&token=abcdef", JWT])
def test_value_behind_many_encodings_is_masked_unseen(hidden: str) -> None:
    nested = "".join(f"%{ord(character):02x}" for character in hidden)
    for _ in range(8):
        nested = nested.replace("%", "%25")

    assert redactor.query(f"a=1&next={nested}&{nested}") == f"a=1&next={MASK}&{MASK}"


def test_headers_keep_all_but_the_secret_ones() -> None:
    headers = {
        "Authorization": "Bearer abc",
        "Cookie": "a=b",
        "Set-Cookie": "sessionid=x",
        "X-Api-Key": "k",
        "X-CSRFToken": "t",
        "Proxy-Authorization": "Basic x",
        "Accept": "application/json",
        "Referer": "https://x/reset/?token=abc&n=1",
    }

    masked = redactor.headers(headers)

    assert masked == dict.fromkeys(headers, MASK) | {
        "Accept": "application/json",
        "Referer": f"https://x/reset/?token={MASK}&n=1",
    }


@pytest.mark.parametrize(
    ("path", "route", "kwargs", "expected"),
    [
        ("/reset/Mg/abc-def/", "reset/<uidb64>/<token>/", {"uidb64": "Mg", "token": "abc-def"}, f"/reset/Mg/{MASK}/"),
        ("/pin/0042/x", "pin/<int:pin>/x", {"pin": 42}, f"/pin/{MASK}/x"),
        ("/t/a-b.txt", "t/<token>.txt", {"token": "a-b"}, f"/t/{MASK}.txt"),
        ("/t/a%20b/", "t/<token>/", {"token": "a b"}, f"/t/{MASK}/"),
        ("/t/AB12/", "t/<token>/", {"token": "ab12"}, f"/t/{MASK}/"),
        ("/items/5/", "items/<int:pk>/", {"pk": 5}, "/items/5/"),
        ("/items/", "", {}, "/items/"),
        (f"/x/{JWT}/", "x/<slug>/", {"slug": JWT}, f"/x/{MASK}/"),
        ("/t//", "t/<token>/", {"token": ""}, "/t//"),
    ],
)
def test_route_parameters_named_like_a_secret_are_masked(
    path: str, route: str, kwargs: dict[str, Any], expected: str
) -> None:
    assert redactor.route(path, route, kwargs) == expected


class _Colour(enum.Enum):
    RED = "red"


class _Broken:
    def __str__(self) -> str:
        raise RuntimeError("no")


class _BrokenDict(dict[str, Any]):
    def items(self) -> Any:
        raise KeyError("no")


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        ({"Password": 1, "n": {"apiKey": ["x"], "ok": None}}, {"Password": MASK, "n": {"apiKey": MASK, "ok": None}}),
        ({"password": None, "token": True, "secret": ""}, {"password": None, "token": True, "secret": ""}),
        ([1, 2.5, True, None, "x"], [1, 2.5, True, None, "x"]),
        ((1, {2}), [1, [2]]),
        (2**53, 2**53),
        (2**53 + 1, str(2**53 + 1)),
        (-(2**60), str(-(2**60))),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (4111111111111111, MASK),
        (b"a\xffb", "a\\xffb"),
        (bytearray(b"x"), "x"),
        (Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (_Colour.RED, "_Colour.RED"),
        (_Broken(), "[unreadable _Broken: RuntimeError]"),
        ([_BrokenDict(a=1), 1], ["[unreadable _BrokenDict: KeyError]", 1]),
        ({1: "a", "1": "b", None: "c"}, {"1": "a", "1'": "b", "None": "c"}),
        ({_Broken(): 1}, "[unreadable dict: RuntimeError]"),
        (QueryDict("a=1&a=2&password=x"), {"a": ["1", "2"], "password": MASK}),
        ('{"token": "x"}', f'{{"token": "{MASK}"}}'),
        (mark_safe("<b>"), "<b>"),
        (SimpleLazyObject(lambda: "lazy"), "lazy"),
        ({JWT: 1}, {MASK: 1}),
        ("\ud800", "\ud800"),
    ],
)
def test_object_becomes_json_without_its_secrets(obj: object, expected: object) -> None:
    copy = redactor.value(obj)

    assert copy == expected
    json.dumps(copy, allow_nan=False)


def test_integer_too_long_to_print_is_kept_in_hexadecimal() -> None:
    assert redactor.value(10**5000) == hex(10**5000)


def test_object_that_contains_itself_is_cut() -> None:
    loop: dict[str, Any] = {"n": 1}
    loop["self"] = loop

    copy = redactor.value(loop)

    assert "[cut: nested deeper than 28 levels]" in json.dumps(copy)


def test_objects_are_bounded_in_size() -> None:
    wide: list[Any] = ["x"]
    for _ in range(20):
        wide = [wide, wide]

    written = json.dumps(redactor.value({"wide": wide, "many": list(range(50_000)), "long": "x" * 10**6}))

    assert "[cut: more than 10000 items]" in written
    assert len(written) < 500_000


def test_strings_of_an_object_are_bounded_together() -> None:
    copy = redactor.value({"many": [f"{number}{'x' * 60_000}" for number in range(100)], "last": "y"})

    assert sum(map(len, copy["many"])) < 270_000
    assert copy["many"][0] == "0" + "x" * 60_000
    assert copy["many"][-1] == "… [cut: 60002 characters]"
    assert len(copy) == 2


def test_names_that_are_one_when_masked_are_told_apart_in_linear_time() -> None:
    document = {f"Bearer abcdef{number}": number for number in range(10_000)}

    assert _fast(lambda: redactor.value(document))
    assert list(redactor.value(document).values()) == list(range(10_000))


def test_long_string_is_cut_with_its_length() -> None:
    copy = redactor.value("x" * 100_000)

    assert copy == "x" * 65_536 + "… [cut: 100000 characters]"


ADVERSARIAL = [
    "token",
    "token=",
    "token: ",
    'token="',
    "token=[",
    "token=(",
    "token=a,",
    "token='a' ",
    "token ",
    '"token":"',
    '"token":[',
    "<token>",
    "<token",
    "<a:token ",
    "\\",
    'token\\"',
    'token"\\n',
    '\\"token\\":\\"',
    "eyJ",
    "eyJ.",
    "eyJa.b.c ",
    "://",
    "://a:",
    "://a:b@",
    ":\\/",
    "-----BEGIN PRIVATE KEY",
    "-----BEGIN ",
    "4111",
    "4111 1111 ",
    "0000 0000",
    "4111111111111111 ",
    "bearer ",
    "Basic YTpi ",
    "sk-",
    "xoxb-",
    "SG.",
    "pbkdf2_sha256$",
    "AKIA",
    "\\u0070",
    "\\u005cu005c",
    "%25",
    "token%3D",
    "a=token&",
    "Duplicate entry '",
    "Key (token, ",
    "password ",
    "card ",
    '"',
    "'",
    "[",
    "{",
    "(",
    "authorization: ",
    "a[",
    "api key ",
    "token\u00e9=",
    ",a=",
    "token,a",
    '4111111111111111,"',
]


def _fast(work: Callable[[], object]) -> bool:
    """Whether 50,000 characters take under two seconds of this process, which a quadratic pattern never does."""
    started = time.process_time()
    work()
    return time.process_time() - started < 2


@pytest.mark.parametrize("unit", ADVERSARIAL)
def test_hostile_text_takes_linear_time(unit: str) -> None:
    text = (unit * (50_000 // len(unit) + 1))[:50_000]

    assert _fast(lambda: redactor.text(text))
    assert _fast(lambda: redactor.query(text))


@pytest.mark.parametrize("content_type", ["application/json", "text/html", "multipart/form-data; boundary=a"])
@pytest.mark.parametrize("unit", ADVERSARIAL)
def test_hostile_body_takes_linear_time(unit: str, content_type: str) -> None:
    raw = (unit * (50_000 // len(unit) + 1))[:50_000].encode()

    assert _fast(lambda: redactor.body(raw, content_type, total_size=len(raw), sha256=None, truncated=False))
