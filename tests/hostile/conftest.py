"""One site with people for the session, and its doors, each opened by the first test that goes through it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_django

from tests.fresh_databases import Databases, fresh_databases

from .sites import DOORS, SECRET_KEY, Audited, Site

SCRIPTS = Path(__file__).parent / "site"
POLICY = [{"path": "/(api/health|flush)/$", "level": "none"}]
#: The address from which all hostile requests come, too: nothing that they claim is believed for that alone.
PEERS = ["127.0.0.1", {"secret": "a-secret-between-two-services"}]


@dataclass(frozen=True)
class People:
    """Who is known to the site: keys of users, and the session of the one who is signed in."""

    ada: int
    bob: int
    deleted: int
    session: str

    def token(self, user_id: Any, **claims: Any) -> str:
        """Return an access token that the site has signed."""
        claims = {"token_type": "access", "exp": 4_000_000_000, "jti": "a" * 32, "user_id": user_id, **claims}
        return jwt.encode(claims, SECRET_KEY, algorithm="HS256")


@pytest.fixture(scope="session")
def hostile_databases(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: pytest_django.DjangoDbBlocker
) -> Iterator[Databases]:
    """Databases of the site: its own, and an audit database of each door for each test module."""
    directory = tmp_path_factory.mktemp("hostile-databases")
    with fresh_databases(
        ["default", *(f"{use}_{door}" for use in ("audit", "canaries", "evaded") for door in DOORS)],
        directory,
        django_db_blocker,
    ) as found:
        yield found


@pytest.fixture(scope="session")
def people(hostile_databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> People:
    """Migrate every database and make the people."""
    aliases = {alias: alias for alias in hostile_databases.settings}
    site = Site(tmp_path_factory.mktemp("prepare"), hostile_databases, aliases, {"DATABASE": f"audit_{min(DOORS)}"})
    site.run(SCRIPTS / "migrate.py")
    return People(**json.loads(site.run(SCRIPTS / "prepare.py")))


@pytest.fixture(scope="session")
def _open_door(
    hostile_databases: Databases, people: People, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Audited]]:
    with ExitStack() as stack:
        opened: dict[str, Audited] = {}

        def open_door(name: str) -> Audited:
            if name not in opened:
                directory = tmp_path_factory.mktemp(name)
                bare = Site(directory / "bare", hostile_databases, {"default": "default"}, None)
                aliases = {"default": "default", "audit": f"audit_{name}"}
                site = Site(
                    directory / "audited", hostile_databases, aliases, {"POLICY": POLICY, "TRUSTED_PEERS": PEERS}
                )
                servers = [stack.enter_context(each.serve(DOORS[name])) for each in (site, bare)]
                opened[name] = Audited(name, site, *servers)
                opened[name].new_rows()
            return opened[name]

        yield open_door


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest, _open_door: Callable[[str], Audited]) -> Audited:
    """A way into the site."""
    found: Audited = _open_door(request.param)
    return found
