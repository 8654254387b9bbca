"""Links to the site are masked by the routes that they lead to, in paths that reach no view and in query strings."""

from __future__ import annotations

import pytest
from django.test import override_settings

from otel_audit.links import mask_page, mask_query
from otel_audit.redaction import MASK, Redactor

redactor = Redactor()

pytestmark = pytest.mark.urls("tests.links_urls")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/invitation/hunter2/", f"/invitation/{MASK}/"),
        ("/invitation/hunter2", f"/invitation/{MASK}"),
        ("/invitation/hunter2/).", f"/invitation/{MASK}/)."),
        ("/invitation/hunter%32/", f"/invitation/{MASK}/"),
        ("https://shop.example/invitation/hunter2/?a=1#b", f"https://shop.example/invitation/{MASK}/?a=1#b"),
        ("/items/7/", "/items/7/"),
        ("/nowhere/hunter2/", "/nowhere/hunter2/"),
        ("//[", "//["),
        ("", ""),
        ("/invitation/" + "x" * 3000, "/invitation/" + "x" * 3000),
    ],
)
def test_address_is_masked_by_its_route(address: str, expected: str) -> None:
    assert mask_page(address, redactor) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("next=/invitation/hunter2/", f"next=/invitation/{MASK}/"),
        ("a=1&next=%2Finvitation%2Fhunter2%2F&b=2", f"a=1&next=/invitation/{MASK}/&b=2"),
        ("next=%252Finvitation%252Fhunter2", f"next=/invitation/{MASK}"),
        ("next=https%3A%2F%2Fx%2Finvitation%2Fhunter2%2F%3Fa%3D1", f"next=https://x/invitation/{MASK}/?a=1"),
        ("next=/items/7/&token=hunter2", f"next=/items/7/&token={MASK}"),
        ("next=/items/7/%20&q=a+b", "next=/items/7/%20&q=a+b"),
        ("next=//[&a=1", "next=//[&a=1"),
        ("", ""),
    ],
)
def test_link_in_a_query_is_masked_by_its_route(query: str, expected: str) -> None:
    assert mask_query(query, redactor) == expected


def test_service_without_pages_has_no_links() -> None:
    with override_settings(ROOT_URLCONF=None):
        assert mask_page("/invitation/hunter2/", redactor) == "/invitation/hunter2/"
