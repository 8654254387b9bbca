"""Secrets in every place that a request, an answer or a view has: none of them is anywhere in what we keep or send."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from otel_audit_exporters.drain import Drainer
from otel_audit_exporters.writer import POISON, Outcome, Rejection
from tests.e2e.otlp_server import Collector, http_collector
from tests.e2e.shop import until
from tests.fresh_databases import Databases

from .canaries import SECRETS, VIEW_SECRETS, requests
from .conftest import People
from .sites import DOORS, Site, send

ALL = {**SECRETS, **VIEW_SECRETS}
PAGES = Path(__file__).parent / "site" / "pages.py"


@pytest.fixture(scope="module", params=DOORS)
def kept(
    request: pytest.FixtureRequest,
    hostile_databases: Databases,
    people: People,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """Tell the site every secret; return all that we keep and send, as text by its place."""
    directory = tmp_path_factory.mktemp("canaries")
    aliases = {"default": "default", "audit": f"canaries_{request.param}"}
    with http_collector() as collector:
        audit = {"DRAIN": "external", "OTLP": {"endpoint": collector.endpoint}}
        site = Site(directory, hostile_databases, aliases, audit)
        site.settings["CANARIES"] = VIEW_SECRETS
        site.environment = {
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "HOSTILE_INSTRUMENTED": "1",  # behind the ASGI door
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": ".*",
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE": ".*",
        }
        with site.serve(DOORS[request.param]) as server:
            for raw in requests():
                answer = send(server, raw)
                assert answer.status_line, (raw[:300], site.log[-3000:])
            server.terminate()
        return dict(_kept(site, collector))


@pytest.mark.parametrize("name", ALL)
def test_secret_is_nowhere_in_what_we_keep_or_send(kept: dict[str, str], name: str) -> None:
    found = {
        f"{place}: …{text[max(0, text.find(written) - 150) : text.find(written) + 60]}…"
        for place, text in kept.items()
        for written in _writings(ALL[name])
        if written in text
    }

    assert found == set()


def test_every_secret_is_told() -> None:
    sources = [Path(__file__).parent / "canaries.py", Path(__file__).parent / "site" / "leaks.py"]
    told = {name for source in sources for name in re.findall(r"""S\[["'](\w+)["']\]""", source.read_text())}

    assert ALL.keys() - told == set()
    assert len(set(ALL.values())) == len(ALL) >= 40


def test_everything_was_looked_at(kept: dict[str, str]) -> None:
    assert {place: len(text) > 1000 for place, text in kept.items() if place != "log"} == dict.fromkeys(
        ["spool", "quarantine", "rows", "files", "pages", "report", "OTLP"], True
    )
    for place in ("spool", "quarantine", "rows", "pages"):
        assert "/leak/annotate/" in kept[place], place
    for place in ("spool", "quarantine", "rows", "pages", "report", "OTLP"):
        assert "[redacted]" in kept[place], place
    for name in ("request", "login", "process", "step", "registration"):
        assert f"{name}auditevent" in kept["pages"], name


def _kept(site: Site, collector: Collector) -> Iterator[tuple[str, str]]:
    spool = site.directory / "spool"
    yield "spool", _files([spool])
    copied = site.directory / "copied"
    shutil.copytree(spool, copied)
    site.drain()
    yield "quarantine", _quarantined(copied, _fingerprint(copied))
    yield "rows", "\n".join(map(repr, _rows(site)))
    file = site.databases.settings[site.audit_alias]["NAME"]
    files = list(Path(file).parent.glob(f"{Path(file).name}*")) if "/" in str(file) else []
    yield "files", _files(files) if files else "a database server's files are not ours to read" * 50
    yield "pages", site.run(PAGES)
    report = site.directory / "report.pdf"
    site.manage("otel_audit", "report", "--output", str(report))
    text = "\n".join(page.extract_text() for page in PdfReader(report).pages)
    yield "report", text + report.read_bytes().decode("latin-1")
    assert until(lambda: "Plain" in collector.text(), timeout=5)
    yield "OTLP", collector.text() + collector.raw().decode("latin-1")
    yield "log", site.own_log


def _rows(site: Site) -> Iterator[Any]:
    for name in ("request", "login", "process", "step", "registration"):
        found = site.rows(name, "*")
        assert found, name
        yield from found


def _fingerprint(spool: Path) -> str:
    (found,) = {path.stem.rpartition("-")[2] for path in spool.glob("*.segment")}
    return found


def _quarantined(spool: Path, fingerprint: str) -> str:
    """Drain a spool into a database that refuses every record; return what lies there then."""

    def refuse(payloads: Sequence[bytes]) -> Outcome:
        return Outcome(0, [Rejection(index, POISON, "refused") for index in range(len(payloads))])

    store: Callable[[Sequence[bytes]], Outcome] = refuse
    Drainer(spool, fingerprint, store).run_until_empty(20)
    found = list(spool.glob("quarantine-*"))
    assert found
    return _files(found)


def _files(paths: Sequence[Path]) -> str:
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return "\n".join(file.read_bytes().decode("latin-1") for file in files)


def _writings(secret: str) -> set[str]:
    """Return a secret as it may be written: plainly, without blanks, and read in a charset it was not written in."""
    plain = secret.encode()
    shifted = plain[1:] if len(plain) % 2 else plain[2:] + b"x"
    return {
        secret,
        secret.replace(" ", ""),
        plain.decode("cp500"),
        plain[: len(plain) // 2 * 2].decode("utf-16le", "replace"),
        shifted[: len(shifted) // 2 * 2].decode("utf-16le", "replace"),
    }
