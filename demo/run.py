"""``make demo``: migrates, starts the shop, visits it, shows its audit trail, and serves until Ctrl-C."""

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from visitor import visit

DEMO = Path(__file__).resolve().parent
ROOT = DEMO.parent
VAR = Path(os.environ.get("SHOP_VAR") or DEMO / "var").resolve()
SERVER_LOG = VAR / "server.log"
STOP_TIMEOUT_S = 20.0


def main() -> int:
    """Run the demo; return its exit status."""
    parser = argparse.ArgumentParser(prog="make demo ARGS=…", description=__doc__)
    parser.add_argument("--once", action="store_true", help="exit instead of serving until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: 8000 or a free one)")
    parser.add_argument("--report", type=Path, default=ROOT / "audit-report.pdf", help="where the PDF goes")
    options = parser.parse_args()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return _demo(once=options.once, port=options.port, report=options.report)
    except KeyboardInterrupt:
        return 130 if options.once else 0  # for a server it is the ordinary end


def _demo(*, once: bool, port: int, report: Path) -> int:
    os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    os.environ["SHOP_VAR"] = str(VAR)
    password = secrets.token_urlsafe(9)
    _manage("migrate", "--verbosity", "0")
    _manage("migrate", "--database", "audit", "--verbosity", "0")
    _manage("seed", SHOP_PASSWORD=password)
    with _server(port) as (server, base_url):
        started = datetime.now(UTC)
        sent = visit(base_url, password)
        complete = _show_trail(sent, started)
        _manage("otel_audit", "report", "-o", str(report))
        print(f"\nThe PDF report: {_short(report)}")
        if complete and not once:
            print(f"The admin: {base_url}/admin/ (sign in as 'auditor', password {password})")
            print(f"The API: {base_url}/api/products/ ('anna' has the same password)")
            print("Ctrl-C stops the shop.", flush=True)
            server.wait()
            raise SystemExit(f"The shop has stopped by itself: see {_short(SERVER_LOG)}.")
    return 0 if complete else 1


def _manage(*arguments: str, **environment: str) -> None:
    print("$ python manage.py", *arguments, flush=True)
    command = [sys.executable, str(DEMO / "manage.py"), *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise SystemExit(f"'manage.py {arguments[0]}' failed with status {done.returncode}.")


@contextmanager
def _server(port: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the shop under gunicorn on a port of 127.0.0.1, and stop it at the end."""
    with _listen(port) as listener, SERVER_LOG.open("wb") as log:
        base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        gunicorn = ["-m", "gunicorn", "shop.wsgi", "--bind", f"fd://{listener.fileno()}", "--threads", "4"]
        server = subprocess.Popen(
            # Its control socket would lie in the home of whoever runs the demo.
            [sys.executable, *gunicorn, "--no-control-socket"],
            cwd=DEMO,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # Ctrl-C reaches us alone: we stop it in order
        )
    try:
        _wait_until_healthy(base_url)
        print(f"\nThe shop runs at {base_url} (gunicorn, process {server.pid}, log {_short(SERVER_LOG)}).")
        yield server, base_url
    finally:
        _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave the server behind
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()
        print(f"The shop did not stop within {STOP_TIMEOUT_S:.0f} s and was killed.", flush=True)
    else:
        print("\nThe shop has stopped.", flush=True)


def _listen(port: int) -> socket.socket:
    """Open the socket here and hand it over, so that nobody can take the port in between."""
    for candidate in [port] if port else [8000, 0]:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", candidate))
        except OSError as error:
            listener.close()
            reason = error.strerror
        else:
            listener.listen(128)
            return listener
    raise SystemExit(f"Port {port} of 127.0.0.1 cannot be used: {reason}. Leave --port away for a free one.")


def _wait_until_healthy(base_url: str) -> None:
    """Send one request: it waits in the socket's queue until the server takes it, or fails with it."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(f"{base_url}/api/health/", timeout=60).close()
    except OSError as error:
        tail = "\n".join(SERVER_LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise SystemExit(f"The shop did not start ({error}). The end of {_short(SERVER_LOG)}:\n{tail}") from None


def _show_trail(sent: int, since: datetime) -> bool:
    """Print what was recorded; return whether every request is there."""
    import django

    django.setup()
    from trail import table, totals, wait_for_requests

    stored = wait_for_requests(sent, since, timeout=15)
    print(f"It was sent {sent} requests. Its audit trail, in a database of its own:\n")
    print(table(since))
    print(f"\nRecorded: {totals(since)}.")
    if stored < sent:
        print(f"Only {stored} of {sent} requests are in the audit database: see 'manage.py otel_audit status'.")
    return stored >= sent


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
