"""Services in other languages, built from ``tests/e2e/senders`` into a cache of the user's, once for each content.

Where the language is missing, or what its registry serves cannot be reached, the test that asks is skipped and says
what to install.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

__all__ = ["golang", "javascript"]

SENDERS = Path(__file__).parent / "senders"
BUILD_S = 300
NODE = 20
#: What npm and Go say of a network that is not there; whatever else they say is a fault of ours.
_NO_NETWORK = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ERR_SOCKET|network|dial tcp|no such host|i/o timeout|TLS handshake"
    r"|\b(?:429|500|502|503|504)\b",
)
_TOO_OLD = re.compile(r"requires go >= (\S+)")


def javascript() -> list[str]:
    """Return the command of the sender in JavaScript; it takes the encoding as its argument."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip(f"Node.js and npm are missing: install Node.js {NODE} or newer")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    if int(version.lstrip("v").partition(".")[0]) < NODE:
        pytest.skip(f"Node.js is {version}: install {NODE} or newer")
    install = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress"]
    return [node, str(_built("js", version, lambda directory: _run(install, directory)) / "send.mjs")]


def golang() -> list[str]:
    """Return the command of the sender in Go."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is missing: install it, at the version that tests/e2e/senders/go/go.mod names or newer")
    version = subprocess.run([go, "version"], capture_output=True, text=True, check=True, timeout=30).stdout
    build = [go, "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o", "sender", "."]
    return [str(_built("go", version, lambda directory: _run(build, directory)) / "sender")]


def _built(name: str, version: str, build: Callable[[Path], None]) -> Path:
    """Return the directory of a sender that is built; whoever comes at the same time waits."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel-audit-tests"
    cache.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in (SENDERS / name).iterdir() if path.is_file())
    digest = hashlib.sha256(version.encode())
    for path in files:
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    target = cache / f"{name}-{digest.hexdigest()[:16]}"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=cache) as directory:
                unfinished = Path(directory, name)
                unfinished.mkdir()
                for path in files:
                    shutil.copy(path, unfinished)
                build(unfinished)
                unfinished.rename(target)
    return target


def _run(command: list[str], directory: Path) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0"}
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=BUILD_S, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} did not end within {BUILD_S} s: is its registry away?")
    said = (done.stdout + done.stderr)[-2000:]
    if done.returncode == 0:
        return
    if found := _TOO_OLD.search(said):
        pytest.skip(f"Go is too old: install {found[1]} or newer")
    if _NO_NETWORK.search(said):
        pytest.skip(f"{command[0]} cannot reach its registry: {said[-300:]}")
    raise AssertionError(said)
