"""Real servers whose workers are killed in the middle of requests: each request that began has its row."""

from __future__ import annotations

import pytest

from tests.e2e.shop import until
from tests.faults.mortal import SERVERS, Mortal, ask, assert_the_equation_holds

DEADLY = ("/leave/", "/kill/", "/stream/", "/static/kill/")


@pytest.mark.parametrize("intents", ["record", "require"])
@pytest.mark.parametrize("name", ["gunicorn sync", "gunicorn gthread", "uvicorn, two workers"])
def test_a_request_that_kills_its_worker_leaves_a_row_and_a_finished_one_its_own(
    site: Mortal, name: str, intents: str
) -> None:
    site.audit |= {"INTENTS": intents, "DRAIN": "external"}
    with site.serve(SERVERS[name]) as server:
        answers = {}
        for number, path in enumerate(DEADLY):
            answers[f"n={number}-before"] = ask(server, "/order/", f"n={number}-before")
            answers[f"n={number}"] = ask(server, path, f"n={number}")
            answers[f"n={number}-after"] = ask(server, "/order/", f"n={number}-after")
        server.terminate()

    site.drain()

    died = [query for query in site.effects() if "-" not in query]
    finished = [query for query, code in answers.items() if code == 200 and "-" in query]
    outcomes = site.outcomes()
    assert set(site.effects()) <= set(outcomes)
    assert died == [f"n={number}" for number in range(len(DEADLY))]
    assert {outcomes[query] for query in died} == {(None, "unknown")}
    assert {outcomes[query] for query in finished} == {(200, "success")}
    assert len(finished) >= len(DEADLY)
    assert_the_equation_holds(site)


@pytest.mark.parametrize("name", ["gunicorn gthread", "uvicorn, two workers"])
def test_requests_are_refused_while_their_intents_cannot_be_stored(site: Mortal, name: str) -> None:
    site.audit |= {"INTENTS": "require", "DRAIN": "external", "SPOOL_MAX_BYTES": 1 << 20}
    site.spool.mkdir(mode=0o700)
    filler = site.spool / "something"
    filler.write_bytes(bytes(1 << 20))
    with site.serve(SERVERS[name]) as server:
        full = [ask(server, "/order/", f"n=full-{number}") for number in range(5)]
        told = site.status()
        filler.unlink()
        after = until(lambda: ask(server, "/order/", "n=after") == 200, timeout=5)
        late = site.status()
        server.terminate()

    site.drain()

    assert (full, after) == ([503] * 5, True)
    assert (told["refused"], told["captured"]) == (5, 0)
    assert site.effects() == ["n=after"]
    assert site.outcomes() == {"n=after": (200, "success")}
    assert assert_the_equation_holds(site)["refused"] == late["refused"] >= 5
