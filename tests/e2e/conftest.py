"""The shop of an end-to-end test: files, databases and spool of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_django

from tests.e2e.shop import Shop, copy_files
from tests.fresh_databases import fresh_databases


@pytest.fixture(scope="session")
def shop_template(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: pytest_django.DjangoDbBlocker) -> Path:
    """A shop that is migrated and seeded, to be copied."""
    directory = tmp_path_factory.mktemp("shop")
    with fresh_databases(["audit"], directory, django_db_blocker) as databases:
        shop = Shop(directory, databases)
        shop.manage("migrate", "--verbosity", "0")
        shop.manage("seed")
        shop.manage("migrate", "--database", "audit", "--verbosity", "0")
    return directory


@pytest.fixture
def shop(tmp_path: Path, shop_template: Path, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[Shop]:
    """A shop with products, people and an empty audit trail."""
    directory = tmp_path / "shop"
    copy_files(shop_template, directory)
    with fresh_databases(["audit"], directory, django_db_blocker) as databases:
        shop = Shop(directory, databases)
        template = shop_template / "audit.sqlite3"
        if template.exists():
            shutil.copy(template, directory / "audit.sqlite3")
        else:
            shop.manage("migrate", "--database", "audit", "--verbosity", "0")
        yield shop
        errors = [line for line in shop.log.splitlines() if " ERROR otel_audit" in line]
        expected = [f"Audit delivery: {word} (" for word in shop.expected_errors]
        assert [line for line in errors if not any(text in line for text in expected)] == []
