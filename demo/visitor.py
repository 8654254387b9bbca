"""The people who visit the demo shop: real HTTP requests, as browsers and API clients send them."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.cookiejar import CookieJar
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What the shop answered."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the decoded JSON body."""
        return json.loads(self.body)


class Visitor:
    """One client of the shop: keeps its cookies and its bearer token, and counts what it sent."""

    def __init__(self, base_url: str, user_agent: str) -> None:
        self.base_url = base_url
        self.token: str | None = None
        self.sent = 0
        self._user_agent = user_agent
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # the shop is on this machine
            urllib.request.HTTPCookieProcessor(self._cookies),
            _NoRedirects(),
        )

    def get(self, path: str) -> Answer:
        """Read a page."""
        return self._send("GET", path, None, {})

    def post(self, path: str, **data: Any) -> Answer:
        """Send JSON."""
        return self._send("POST", path, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def submit(self, path: str, **fields: str) -> Answer:
        """Send a form as a browser does: read the page that holds it, then post it with its CSRF token."""
        page = self.get(path).body.decode()
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        if found:
            fields["csrfmiddlewaretoken"] = found[1]
        form = urllib.parse.urlencode(fields).encode()
        return self._send("POST", path, form, {"Content-Type": "application/x-www-form-urlencoded"})

    def cookie(self, name: str) -> str:
        """Return the value of a cookie, or an empty text."""
        return next((str(cookie.value) for cookie in self._cookies if cookie.name == name), "")

    def _send(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        headers["User-Agent"] = self._user_agent
        headers["X-CSRFToken"] = self.cookie("csrftoken")
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.base_url + path, data=data, headers=headers, method=method)
        self.sent += 1
        try:
            with self._opener.open(request, timeout=30) as response:
                return Answer(response.status, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read())


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for the answer, so that each call is one request."""

    def redirect_request(self, *args: Any) -> None:
        return None


def visit(base_url: str, password: str) -> int:
    """Send the shop a few dozen requests of three people; return how many."""
    visitors = [
        _look_around(Visitor(base_url, "Mozilla/5.0 (demo browser)")),
        _shop_with_a_token(Visitor(base_url, "shop-app/3.1"), password),
        _audit_with_a_session(Visitor(base_url, "Mozilla/5.0 (auditor)"), password),
    ]
    return sum(visitor.sent for visitor in visitors)


def _look_around(browser: Visitor) -> Visitor:
    """Somebody who does not sign in, and whose link carries a secret that must not be stored."""
    _expect(browser.get("/api/products/"), 200)
    for number in range(1, 7):
        _expect(browser.get(f"/api/products/{number}/"), 200)
    _expect(browser.get("/api/products/?ordering=price&api_key=5f4dcc3b5aa765d6"), 200)
    _expect(browser.get("/api/products/999/"), 404)
    _expect(browser.get("/api/stock/kettle/"), 200)
    _expect(browser.get("/api/price-list/"), 200)
    _expect(browser.get("/api/nowhere/"), 404)
    _expect(browser.post("/api/products/", sku="gift", name="Gift", price="1.00"), 401)
    _expect(browser.get("/api/crash/"), 500)
    return browser


def _shop_with_a_token(app: Visitor, password: str) -> Visitor:
    """Anna, with SimpleJWT: signs in at the second try, adds a product at the second try, buys, signs out."""
    _expect(app.post("/api/token/", username="anna", password="forgotten"), 401)
    tokens = _expect(app.post("/api/token/", username="anna", password=password), 200).json()
    app.token = tokens["access"]
    for page in ("/api/products/", "/api/products/2/", "/api/products/5/", "/api/stock/scale/"):
        _expect(app.get(page), 200)
    app.token = _expect(app.post("/api/token/refresh/", refresh=tokens["refresh"]), 200).json()["access"]

    sku = f"moka-pot-{app.get('/api/products/').json()['count']}"
    _expect(app.post("/api/products/", sku=sku, name="Moka pot", price="-34.90", stock=8), 400)
    _expect(app.post("/api/products/", sku=sku, name="Moka pot", price="34.90", stock=8), 201)
    _expect(app.post("/api/checkout/", sku=sku, quantity=2), 201)
    _expect(app.post("/api/checkout/", sku=sku, quantity=500), 409)
    _expect(app.post(f"/api/restock/{sku}/"), 200)
    _expect(app.get("/api/crash/"), 500)
    _expect(app.post("/api/token/blacklist/", refresh=tokens["refresh"]), 200)
    _expect(app.post("/api/token/refresh/", refresh=tokens["refresh"]), 401)
    return app


def _audit_with_a_session(browser: Visitor, password: str) -> Visitor:
    """The auditor, with a session: signs in to the admin at the second try and signs out again."""
    _expect(browser.submit("/admin/login/", username="auditor", password="12345678"), 200)
    _expect(browser.submit("/admin/login/", username="auditor", password=password, next="/admin/"), 302)
    _expect(browser.get("/admin/"), 200)
    _expect(browser.get("/api/products/"), 200)
    _expect(browser.post("/api/sign-out/"), 204)
    return browser


def _expect(answer: Answer, status: int) -> Answer:
    if answer.status != status:
        raise SystemExit(f"The shop answered {answer.status} where {status} was expected: {answer.body[:300]!r}")
    return answer
