"""The spool directory: who may look into it, and whether it can keep a promise."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from otel_audit.exceptions import SpoolError

__all__ = ["directory_problem", "directory_warning", "open_directory"]

_MOUNTS: Final = Path("/proc/self/mounts")
_ADVICE: Final = 'or set OTEL_AUDIT["SPOOL_DIR"] to a directory of its own.'
_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "ceph", "glusterfs"})
_VOLATILE: Final = frozenset({"tmpfs", "ramfs"})


def directory_problem(path: Path) -> str | None:
    """Say in one sentence why ``path`` cannot be the spool directory and how to fix it; None when it can.

    A missing directory is created with mode 0700; nothing else is changed.
    """
    try:
        os.close(open_directory(path))
    except SpoolError as error:
        return str(error)
    return None


def directory_warning(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """Say in one sentence what the file system of ``path`` cannot promise; None where it can, or nobody knows."""
    kind = _file_system(path, mounts)
    if kind in _NETWORK:
        return (
            f"The spool directory {path} is on a network file system ({kind}), whose locks and syncs cannot be "
            'relied on: set OTEL_AUDIT["SPOOL_DIR"] to a local disk.'
        )
    if kind in _VOLATILE:
        return (
            f"The spool directory {path} is in memory ({kind}) and gone after a restart: "
            'set OTEL_AUDIT["SPOOL_DIR"] to a local disk.'
        )
    return None


def open_directory(path: Path) -> int:
    """Return a descriptor of the spool directory, made if missing, after looking at who may do what there.

    Raises:
        SpoolError: it is a symbolic link, somebody else's, open to others, or not writable.
    """
    try:
        for missing in [each for each in (path, *path.parents) if not each.exists()][::-1]:
            missing.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            problem = _permission_problem(path, os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
    except OSError as error:
        if path.is_symlink():
            raise SpoolError(
                f"The spool directory {path} is a symbolic link: name the directory itself, {_ADVICE}"
            ) from error
        raise SpoolError(
            f"The spool directory {path} cannot be opened ({error.strerror}): create it, {_ADVICE}"
        ) from error
    if problem is not None:
        os.close(fd)
        raise SpoolError(f"The spool directory {path} {problem}, {_ADVICE}")
    return fd


def _permission_problem(path: Path, found: os.stat_result) -> str | None:
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}, not to {os.geteuid()}: chown it"
    if found.st_mode & 0o077:
        return f"is open to others (mode {stat.S_IMODE(found.st_mode):04o}): chmod 700 it"
    if not os.access(path, os.W_OK | os.X_OK):
        return "is not writable: chmod 700 it"
    return None


def _file_system(path: Path, mounts: Path) -> str | None:
    """Return the type of the file system that ``path`` is on, None where the kernel does not tell."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # no Linux
        return None
    resolved = path.resolve()
    best, kind = -1, None
    for line in lines:
        _, point, found, *_ = line.split(" ")
        mounted = Path(point.replace("\\040", " "))
        if len(mounted.parts) > best and (mounted == resolved or mounted in resolved.parents):
            best, kind = len(mounted.parts), found
    return kind
