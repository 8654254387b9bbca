"""Links to the site are masked by the routes that they lead to, in paths that reach no view and in query strings."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import override_settings
from django.urls import set_script_prefix

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
        ("next=/sign-in/?next=/invitation/hunter2/", f"next=/sign-in/?next=/invitation/{MASK}/"),
        (
            "next=%2Fsign-in%2F%3Fa%3D1%26next%3D%252Finvitation%252Fhunter2%252F&b=2",
            f"next=/sign-in/?a=1%26next=/invitation/{MASK}/&b=2",
        ),
        ("", ""),
    ],
)
def test_link_in_a_query_is_masked_by_its_route(query: str, expected: str) -> None:
    assert mask_query(query, redactor) == expected


@pytest.mark.parametrize("forced", [False, True])
def test_link_to_a_site_under_a_prefix_is_masked_by_its_route(settings: Any, forced: bool) -> None:
    if forced:  # as in a thread of ours, which serves no request
        settings.FORCE_SCRIPT_NAME = "/shop"
    else:
        set_script_prefix("/shop/")
    try:
        masked = mask_query("next=/shop/invitation/hunter2/&to=https://x/shop/invitation/hunter2", redactor)
    finally:
        set_script_prefix("/")

    assert masked == f"next=/shop/invitation/{MASK}/&to=https://x/shop/invitation/{MASK}"


def test_flood_of_links_costs_no_more_than_some_and_leaves_no_secret() -> None:
    flood = "&".join(f"a{number}=/x/{number}" for number in range(5000))
    began = time.process_time()

    masked = mask_query(f"{flood}&next=/invitation/hunter2/&b=2", redactor)

    assert time.process_time() - began < 0.5  # twenty times what it takes
    assert masked.startswith("a0=/x/0&a1=/x/1&")
    assert masked.endswith(f"&a4999={MASK}&next={MASK}&b=2")


def test_service_without_pages_has_no_links() -> None:
    with override_settings(ROOT_URLCONF=None):
        assert mask_page("/invitation/hunter2/", redactor) == "/invitation/hunter2/"
