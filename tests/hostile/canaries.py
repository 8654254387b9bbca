"""Secrets, each in a place of its own, and the requests that carry them there."""

from __future__ import annotations

import base64
import json
from typing import Final

from .sites import http

__all__ = ["SECRETS", "VIEW_SECRETS", "requests"]

JSON = "Content-Type: application/json"
FORM = "Content-Type: application/x-www-form-urlencoded"
TEXT = "Content-Type: text/plain"


def _canary(number: int) -> str:
    return f"Kanari{number:03d}vQ7xZ"


def _jwt(number: int) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    claims = base64.urlsafe_b64encode(b'{"user_id":%d,"jti":"zz"}' % number).decode().rstrip("=")
    return f"{head}.{claims}.{_canary(number)}{'s' * 28}"


_WRITTEN: Final = """
exception_message exception_repr exception_cause exception_note exception_key process_extra step_extra
registration_extra set_extra process_name process_description step_name step_description registration_name
registration_description annotate annotate_nested annotate_text meta meta_login span_attribute span_list
span_map_key span_event event_name event_text recorded_exception span_status span_name link_attribute
plain_description plain_registration plain_registration_text plain_login response_json response_nested
response_html response_text set_cookie lazy_user class_extra class_description request_span_attribute
actor_name source_local
"""
_SENT: Final = """
json nested list camel dashes upper escaped_key json_in_json json_in_json_in_json duplicate_one duplicate_two
in_array in_object quoted long_key cut ndjson utf16 charset graphql get_body plain_text yaml no_type
wrong_type form form_brackets form_encoded_key form_json multipart multipart_json file_name other_boundary xml
xml_attribute xml_cdata xml_namespace soap html_input user_info redis dsn query query_encoded query_twice
query_array query_json reset reset_referer cookie session_cookie proxy_authorization api_key_header
x_auth_token user_agent_pair path_pair login_password token_password basic_password tracestate baggage
wrong_login_again exception_body oauth_code oauth_state oauth_short oauth_referer oauth_next oauth_exchange
code_verifier saml_response saml_request relay_state totp backup_code recovery_codes device_code signed_url azure_sig
forged_mark link_redirect link_lost link_host link_next link_json link_html link_failing contrasena
"""
#: Secrets that a view, a library or plain OpenTelemetry code writes; the site gets them by name.
VIEW_SECRETS: Final = {
    name: _canary(number)
    for number, name in enumerate(
        _WRITTEN.split(),
        start=500,
    )
} | {
    "response_jwt": _jwt(590),
    "span_bearer": _jwt(591),
    "span_pin": "739158264",
    "span_card": "4929831175640281",
}

#: Secrets that a client sends.
SECRETS: Final = {
    name: _canary(number)
    for number, name in enumerate(
        _SENT.split(),
        start=100,
    )
} | {
    "bearer": _jwt(300),
    "jwt_in_path": _jwt(301),
    "jwt_in_user_agent": _jwt(302),
    "jwt_in_query": _jwt(303),
    "jwt_in_text": _jwt(304),
    "drf_token": "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
    "card": "4539578763621486",
    "card_in_groups": "5425 2334 3010 9903",
    "card_in_query": "374245455400126",
    "card_number": "6011000991300009",
    "aws": "AKIAQ7KANARIZX2V4B6N",
    "github": "ghp_Kanari401vQ7xZbbbbbbbbbbbbbbbbbbbbbb",
    "stripe": "sk_live_Kanari402vQ7xZbbbbbbbb",
    "slack": "xoxb-403403403403-Kanari403vQ7xZ",
    "gitlab": "glpat-Kanari405vQ7xZbbbb-bb",
    "npm": "npm_Kanari406vQ7xZbbbbbbbbbbbbbbbbbbbbbbbb",
    "google": "AIzaKanari407vQ7xZbbbbbbbbbbbbbbbbbbbbb",
    "google_oauth": "1//0Kanari408vQ7xZbbbbbbbbbbbbbbbbbbbbb",
    "vault": "hvs.Kanari409vQ7xZbbbbbbbbbb",
    "reset_link": "d8k2x1-410410410410410410410410410410ab",
    "pem": "MIIEKanari404vQ7xZAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
}
S: Final = SECRETS
SECRETS["basic"] = base64.b64encode(f"ada:{S['basic_password']}".encode()).decode()


def requests() -> list[bytes]:
    """Return every request that carries a secret."""
    return [*_json(), *_other_bodies(), *_forms(), *_documents(), *_addresses(), *_headers(), *_sign_ins(), *_views()]


def _data(value: object, *headers: str) -> bytes:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return http("POST", "/data/", *(headers or (JSON,)), body=body)


def _json() -> list[bytes]:
    inner = json.dumps({"password": S["json_in_json"]})
    innermost = json.dumps({"p": json.dumps({"password": S["json_in_json_in_json"]})})
    return [
        _data({"password": S["json"], "user": {"profile": {"client_secret": S["nested"]}}}),
        _data({"users": [1, [{"new_password": S["list"]}]], "accessToken": S["camel"]}),
        _data({"API-Key": S["dashes"], "CLIENT_SECRET": S["upper"]}),
        _data(b'{"\\u0070ass\\u0077ord": "%s"}' % S["escaped_key"].encode()),
        _data({"payload": inner, "more": json.dumps(innermost)}),
        _data(b'{"token": "%s", "token": "%s"}' % (S["duplicate_one"].encode(), S["duplicate_two"].encode())),
        _data({"passwords": ["x", S["in_array"]], "credentials": {"value": S["in_object"]}}),
        _data({"password": 'a"\\' + S["quoted"], "k" * 150 + "_password": S["long_key"]}),
        http("POST", "/echo/", JSON, body=b'{"a": "' + b"x" * 65_490 + b'", "password": "%s"}' % S["cut"].encode()),
        _data({"number": S["card"], "text": f"my card {S['card_in_groups']}."}),
        _data(b'{"number": %s}' % S["card_number"].encode()),
        _data({"notes": [S["aws"], S["github"], S["stripe"], S["slack"]]}),
        _data({"notes": [S["gitlab"], f"see {S['npm']}.", {"a": S["google"]}, S["google_oauth"], S["vault"]]}),
        _data({"totp": S["totp"], "backupCode": S["backup_code"], "recovery_codes": [S["recovery_codes"], 1]}),
        _data({"link": f"/in/?next=%2Fx%3Ftoken%3D{S['link_json']}%26a%3D1", "contrase\u00f1a": S["contrasena"]}),
        _data({"device_code": S["device_code"], "password": "[redacted]" + S["forged_mark"]}),
        _data({"file": f"-----BEGIN RSA PRIVATE KEY-----\n{S['pem']}\n-----END RSA PRIVATE KEY-----\n"}),
        _data({"url": f"https://ada:{S['user_info']}@example.com/", "cache": f"redis://:{S['redis']}@cache:6379/0"}),
        _data({"dsn": f"host=db user=x password={S['dsn']} dbname=y", "text": f"see {S['jwt_in_text']} here"}),
    ]


def _other_bodies() -> list[bytes]:
    graphql = 'mutation { login(name: "ada", password: "' + S["graphql"] + '") { token } }'
    return [
        _data({"query": graphql, "variables": {"password": S["graphql"]}}),
        http(
            "POST", "/echo/", "Content-Type: application/x-ndjson", body=b'{"a":1}\n{"pin":"%s"}' % S["ndjson"].encode()
        ),
        _data(json.dumps({"password": S["utf16"]}).encode("utf-16"), f"{JSON}; charset=utf-16"),
        _data({"password": S["charset"]}, f"{JSON}; charset=utf-16le"),
        _data({"password": S["charset"]}, f"{JSON}; charset=cp500"),
        http("GET", "/echo/", JSON, body=json.dumps({"password": S["get_body"]}).encode()),
        http("POST", "/echo/", TEXT, body=f"Password: {S['plain_text']}\nnext".encode()),
        http("POST", "/echo/", "Content-Type: application/yaml", body=f"db:\n  password: {S['yaml']}\n".encode()),
        http("POST", "/echo/", body=json.dumps({"secret": S["no_type"]}).encode()),
        http("POST", "/echo/", FORM, body=json.dumps({"secret": S["wrong_type"]}).encode()),
    ]


def _forms() -> list[bytes]:
    field = '--B\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    multipart = (
        field % ("password", "", S["multipart"])
        + field % ("data", "", json.dumps({"password": S["multipart_json"]}))
        + field % ("upload", f'; filename="token={S["file_name"]}.txt"', "content")
        + "--B--\r\n"
    )
    other = (
        field % ("note", "", "x") + "--B--\r\n" + field.replace("--B", "--C") % ("password", "", S["other_boundary"])
    ) + "--C--\r\n"
    return [
        http("POST", "/form/", FORM, body=f"user=ada&password={S['form']}&user[secret]={S['form_brackets']}".encode()),
        http("POST", "/form/", FORM, body=f"p%61ssw%6Frd={S['form_encoded_key']}".encode()),
        http("POST", "/form/", FORM, body=f"SAMLResponse={S['saml_response']}&RelayState={S['relay_state']}".encode()),
        http(
            "POST",
            "/form/",
            FORM,
            body=f"grant_type=authorization_code&code={S['oauth_exchange']}&code_verifier="
            f"{S['code_verifier']}&client_id=shop".encode(),
        ),
        http("POST", "/form/", FORM, body=f"a=1&password=[redacted]{S['forged_mark']}&b=2".encode()),
        http("POST", "/form/", FORM, body=f"data=%7B%22password%22%3A%22{S['form_json']}%22%7D".encode()),
        http("POST", "/form/", "Content-Type: multipart/form-data; boundary=B", body=multipart.encode()),
        http("POST", "/form/", "Content-Type: multipart/form-data; boundary=B; boundary=C", body=other.encode()),
    ]


def _documents() -> list[bytes]:
    xml, soap, html = (f"Content-Type: {kind}" for kind in ("application/xml", "application/soap+xml", "text/html"))
    return [
        http(
            "POST",
            "/echo/",
            xml,
            body=f"<a><Password>{S['xml']}</Password><u password='{S['xml_attribute']}'/></a>".encode(),
        ),
        http("POST", "/echo/", xml, body=f"<a><secret><![CDATA[{S['xml_cdata']}]]></secret></a>".encode()),
        http("POST", "/echo/", xml, body=f"<x:a><x:api-key a='b'>{S['xml_namespace']}</x:api-key></x:a>".encode()),
        http("POST", "/echo/", soap, body=f'<wsse:Password Type="#T">{S["soap"]}</wsse:Password>'.encode()),
        http("POST", "/echo/", html, body=f"<i data-a='{{&quot;token&quot;:&quot;{S['link_html']}&quot;}}'>".encode()),
        http("POST", "/echo/", html, body=f'<input name="csrfmiddlewaretoken" value="{S["html_input"]}">'.encode()),
    ]


def _addresses() -> list[bytes]:
    reset = f"/reset/Mg/{S['reset']}/"
    return [
        http("GET", f"/echo/?token={S['query']}&p%61ssword={S['query_encoded']}&a=b"),
        http("GET", f"/echo/?next=%2Fx%3Ftoken%3D{S['query_twice']}&user[password]={S['query_array']}"),
        http("GET", f"/echo/?q=%7B%22secret%22%3A%22{S['query_json']}%22%7D&card={S['card_in_query']}"),
        http("GET", f"/echo/?t={S['jwt_in_query']}"),
        http("GET", reset, f"Referer: http://127.0.0.1{reset}"),
        http("GET", "/echo/", f"Referer: http://127.0.0.1/reset/Mg/{S['reset_referer']}/?token={S['reset_referer']}"),
        http("GET", f"/echo/?code={S['oauth_code']}&state={S['oauth_state']}"),
        http("GET", f"/oauth/callback/?code={S['oauth_short']}&n=1"),
        http("GET", f"/echo/?next=https%3A%2F%2Fx%2Fcb%3Fcode%3D{S['oauth_next']}%26state%3D{S['oauth_next']}"),
        http("GET", "/echo/", f"Referer: http://127.0.0.1/cb?code={S['oauth_referer']}&state={S['oauth_referer']}"),
        http("GET", f"/echo/?SAMLRequest={S['saml_request']}"),
        http("GET", f"/echo/?sv=2024-11-04&se=2026&sig={S['azure_sig']}"),
        http("GET", f"/echo/?Expires=1&Key-Pair-Id=K2&Signature={S['signed_url']}"),
        http("GET", f"/account/new-password/Mg/{S['reset_link']}/"),
        http("GET", f"/echo/{S['jwt_in_path']}/"),
        http("GET", f"/echo/;password={S['path_pair']}/"),
        http("GET", f"/invitation/{S['link_redirect']}"),
        http("GET", f"/invitation/{S['link_lost']}/)."),
        http("GET", f"/invitation/{S['link_host']}/", host="evil.example"),
        http("GET", f"/echo/?next=%2Finvitation%2F{S['link_next']}%2F&next=http://127.0.0.1/invitation/{S['link_next']}"),
        http("GET", f"/fail/outer/request/?next=/invitation/{S['link_failing']}/"),
    ]  # fmt: skip


def _headers() -> list[bytes]:
    trace = f"traceparent: 00-{'c' * 32}-{'d' * 16}-01"
    return [
        http("GET", "/who/", f"Authorization: Bearer {S['bearer']}"),
        http("GET", "/who/", f"Authorization: Basic {S['basic']}"),
        http("GET", "/who/", f"Authorization: Token {S['drf_token']}"),
        http(
            "GET", "/echo/", f"Proxy-Authorization: x {S['proxy_authorization']}", f"X-API-Key: {S['api_key_header']}"
        ),
        http("GET", "/echo/", f"Cookie: csrftoken={S['cookie']}; sessionid={S['session_cookie']}"),
        http("GET", "/echo/", f"User-Agent: x/1 {S['jwt_in_user_agent']}", f"X-Auth-Token: {S['x_auth_token']}"),
        http("GET", "/echo/", f"User-Agent: client/1 (api_key={S['user_agent_pair']})"),
        http("GET", "/echo/", trace, f"tracestate: token={S['tracestate']}", f"baggage: token={S['baggage']}"),
    ]


def _sign_ins() -> list[bytes]:
    form = f"username=ada&password={S['login_password']}&csrfmiddlewaretoken={'x' * 32}"
    again = {"username": S["wrong_login_again"][:3], "password": S["wrong_login_again"]}
    return [
        http("POST", "/sign-in/", FORM, body=form.encode()),
        http("POST", "/token/", JSON, body=json.dumps({"username": "ada", "password": S["token_password"]}).encode()),
        http("POST", "/token/", JSON, body=json.dumps(again).encode()),
    ]


def _views() -> list[bytes]:
    places = ["annotate", "helpers", "class", "plain", "request-span", "answer/json", "answer/html", "answer/text"]
    crashes = ["message", "cause", "recorded", "lazy", "source"]
    body = json.dumps({"password": S["exception_body"]}).encode()
    return [
        *(http("POST", f"/leak/{place}/", body=b"{}") for place in places),
        *(http("GET", f"/leak/crash/{how}/") for how in crashes),
        http("GET", "/leak/lazy-user/", "Cookie: sessionid=abcdefgh"),
        http("POST", "/crash/echo/", JSON, body=body),
    ]
