from __future__ import annotations

import errno
import fcntl
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from otel_audit.exceptions import SpoolError
from otel_audit_exporters import room
from otel_audit_exporters.directory import directory_problem, directory_warning
from otel_audit_exporters.segments import CLOSE, OPEN, RECORD, Name, Segment, segments
from otel_audit_exporters.spool import SpoolWriter
from tests.exporters.spooling import FINGERPRINT, make_record, make_records, spooled

LIMIT = 1 << 30


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def kinds(path: Path) -> list[bytes]:
    with Segment(path) as segment:
        return [frame.kind for frame in segment.frames(0)]


def test_a_record_can_be_read_back_as_soon_as_append_returns(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    record = make_record("stock checked")

    writer.append([record])

    (envelope,) = spooled(directory)
    assert envelope["id"] == record.id
    assert envelope["hash"] == record.hash
    assert envelope["facts"]["name"] == "stock checked"
    writer.close()


def test_records_of_one_writer_are_numbered_from_one_in_one_stream(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)

    writer.append(make_records(2))
    writer.append(make_records(1))

    assert [envelope["seq"] for envelope in spooled(directory)] == [1, 2, 3]
    assert {envelope["stream"] for envelope in spooled(directory)} == {writer.stream}
    writer.close()


def test_nothing_is_created_before_the_first_record(directory: Path) -> None:
    SpoolWriter(directory, FINGERPRINT, LIMIT).close()

    assert not directory.exists()


def test_directory_and_segment_are_for_their_owner_alone(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)

    writer.append(make_records(1))

    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in segments(directory)] == [0o600]
    writer.close()


def test_a_segment_says_when_by_whom_and_for_which_database_it_was_begun(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)

    writer.append(make_records(1))

    (path,) = segments(directory)
    name = Name.parse(path.name)
    assert name is not None
    assert (name.pid, name.stream, name.number, name.fingerprint) == (os.getpid(), writer.stream, 1, FINGERPRINT)
    with Segment(path) as segment:
        header = segment.header()
    assert header is not None
    assert header["fingerprint"] == FINGERPRINT
    assert header["first_seq"] == 1
    writer.close()


def test_a_stream_opens_counts_and_closes(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(2))

    writer.close()

    (path,) = segments(directory)
    assert kinds(path)[1:] == [OPEN, RECORD, RECORD, CLOSE]


def test_a_segment_is_incomplete_exactly_as_long_as_its_writer_may_append(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(1))
    (path,) = segments(directory)

    with Segment(path) as segment:
        before = segment.is_complete()
        writer.close()
        after = segment.is_complete()

    assert (before, after) == (False, True)


def test_a_full_segment_is_followed_by_the_next_of_the_same_stream(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT, segment_bytes=2000)

    for record in make_records(10):
        writer.append([record])

    paths = segments(directory)
    assert len(paths) > 2
    assert [envelope["seq"] for envelope in spooled(directory)] == list(range(1, 11))
    with Segment(paths[0]) as first:
        assert first.is_complete()
    writer.close()


def test_a_full_spool_refuses_and_keeps_what_it_has(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, 20_000)
    with pytest.raises(SpoolError, match="full"):
        for record in make_records(100):
            writer.append([record])

    kept = spooled(directory)

    assert 5 < len(kept) < 100
    assert sum(path.stat().st_size for path in segments(directory)) <= 20_000
    writer.close()


def test_a_full_spool_takes_records_again_when_it_was_drained(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_SURVEY_SECONDS", 0)
    other = SpoolWriter(directory, FINGERPRINT, LIMIT)
    other.append(make_records(60))
    writer = SpoolWriter(directory, FINGERPRINT, 20_000)
    with pytest.raises(SpoolError, match="full"):
        writer.append(make_records(1))
    segments(directory)[0].unlink()

    writer.append(make_records(1))

    assert len(spooled(directory)) == 1
    other.close()
    writer.close()


def test_a_spool_that_is_nearly_full_is_warned_about_once(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    earlier = SpoolWriter(directory, FINGERPRINT, LIMIT)
    earlier.append(make_records(200))
    size = sum(path.stat().st_size for path in directory.iterdir())
    writer = SpoolWriter(directory, FINGERPRINT, int(size / 0.85))

    with caplog.at_level(logging.WARNING, "otel_audit.delivery"):
        writer.append(make_records(1))

    assert len([message for message in caplog.messages if "does not keep up" in message]) == 1
    earlier.close()
    writer.close()


def test_nothing_half_written_stays_when_the_disk_is_full(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(1))
    real_write = os.write

    def write_half_then_fail(fd: int, data: bytes) -> int:
        if len(data) < 300:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(fd, data[: len(data) - 100])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_half_then_fail)
        with pytest.raises(SpoolError, match="No space left"):
            writer.append([make_record("lost")])
    writer.append([make_record("kept")])

    assert [envelope["facts"]["name"] for envelope in spooled(directory)] == ["number 0", "kept"]
    assert [envelope["seq"] for envelope in spooled(directory)] == [1, 2]
    writer.close()


def test_short_writes_are_continued(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    real_write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, data[:7]))

    writer.append(make_records(3))

    assert [envelope["seq"] for envelope in spooled(directory)] == [1, 2, 3]
    writer.close()


def test_a_signal_handler_that_raises_after_the_write_leaves_a_consistent_stream(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(1))
    real_write = os.write

    def write_then_interrupt(fd: int, data: bytes) -> int:
        real_write(fd, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_then_interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.append(make_records(1))
    writer.append(make_records(1))

    assert [envelope["seq"] for envelope in spooled(directory)] == [1, 2, 3]
    writer.close()


def test_recording_from_a_signal_handler_in_mid_append_is_refused_not_deadlocked(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    real_write = os.write
    inner: list[Exception] = []

    def write_and_record_again(fd: int, data: bytes) -> int:
        try:
            writer.append(make_records(1))
        except SpoolError as error:
            inner.append(error)
        return real_write(fd, data)

    monkeypatch.setattr(os, "write", write_and_record_again)
    writer.append(make_records(1))

    assert "in the middle of another append" in str(inner[0])
    assert len(spooled(directory)) == 1
    writer.close()


def test_a_closed_writer_refuses(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(1))
    writer.close()

    with pytest.raises(SpoolError, match="closed"):
        writer.append(make_records(1))


def test_letting_go_after_a_fork_keeps_the_parents_lock(directory: Path) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(1))
    (path,) = segments(directory)
    inherited = os.dup(writer._fd)  # what a child has: the same open file

    writer.after_fork_in_child()

    with Segment(path) as segment:
        assert not segment.is_complete()
        os.close(inherited)
        assert segment.is_complete()
    with pytest.raises(SpoolError):
        writer.append(make_records(1))


def test_a_directory_that_others_can_enter_is_refused_with_the_way_out(directory: Path) -> None:
    directory.mkdir(mode=0o755)

    problem = directory_problem(directory)

    assert problem is not None
    assert "chmod 700" in problem


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    problem = directory_problem(tmp_path / "link")

    assert problem is not None
    assert "symbolic link" in problem


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")

    problem = directory_problem(tmp_path / "spool")

    assert problem is not None
    assert "cannot be opened" in problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    os.chown(directory, 4242, -1)

    problem = directory_problem(directory)

    assert problem is not None
    assert "belongs to user 4242" in problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_read_only_directory_is_refused(directory: Path) -> None:
    directory.mkdir(mode=0o500)

    problem = directory_problem(directory)

    assert problem is not None
    assert "not writable" in problem


def test_a_missing_directory_is_created_for_its_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "otel-audit" / "spool"

    problem = directory_problem(directory)

    assert problem is None
    assert directory.stat().st_mode & 0o777 == 0o700


def test_an_unusable_directory_is_an_error_at_the_first_record(directory: Path) -> None:
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)

    with pytest.raises(SpoolError, match="open to others"):
        writer.append(make_records(1))


def test_a_segment_is_locked_before_it_has_its_name(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked_at_rename = []
    real_rename = os.rename

    def look_then_rename(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        with (directory / source).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                locked_at_rename.append(True)
        real_rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", look_then_rename)
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)

    writer.append(make_records(1))

    assert locked_at_rename == [True]
    writer.close()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("ext4", None),
        ("nfs4", "network file system"),
        ("fuse.sshfs", "network file system"),
        ("tmpfs", "gone after a restart"),
    ],
)
def test_a_file_system_that_cannot_keep_the_promise_is_warned_about(
    tmp_path: Path, kind: str, said: str | None
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path} {kind} rw 0 0\nproc /proc proc rw 0 0\n")

    warning = directory_warning(tmp_path / "spool", mounts)

    assert warning is None if said is None else warning is not None and said in warning


def test_a_kernel_that_does_not_tell_its_mounts_is_believed(tmp_path: Path) -> None:
    assert directory_warning(tmp_path, tmp_path / "nowhere") is None


def test_where_the_tests_run_is_a_known_file_system(tmp_path: Path) -> None:
    assert directory_warning(Path("/dev/shm")) is None or "in memory" in str(directory_warning(Path("/dev/shm")))


def test_a_disk_that_ends_in_the_middle_of_an_append_takes_it_back(directory: Path) -> None:
    """A real short write: the kernel takes what still fits below the limit of the process."""
    program = """
import resource, sys
from pathlib import Path
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["otel_audit"], DATABASES={})
django.setup()
from otel_audit.exceptions import SpoolError
from otel_audit_exporters.spool import SpoolWriter
from tests.exporters.spooling import make_record
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))
writer = SpoolWriter(Path(sys.argv[1]), "0123456789abcdef", 1 << 30)
kept = 0
for _ in range(30):
    try:
        writer.append([make_record("x" * 500)])
        kept += 1
    except SpoolError as error:
        assert "File too large" in str(error), error
print(kept)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(directory)], check=True, stdout=subprocess.PIPE, text=True, timeout=60
    )

    kept = spooled(directory)

    assert len(kept) == int(done.stdout)
    assert 5 < len(kept) < 30
    assert [envelope["seq"] for envelope in kept] == list(range(1, len(kept) + 1))


def test_a_failure_that_cannot_be_undone_gives_the_segment_up(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(1))
    real_write = os.write

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def write_half_then_fail(fd: int, data: bytes) -> int:
        real_write(fd, data[:50])
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_half_then_fail)
        patch.setattr(os, "ftruncate", fail)
        with pytest.raises(SpoolError):
            writer.append(make_records(1))
    writer.append(make_records(1))

    assert [envelope["seq"] for envelope in spooled(directory)] == [1, 2]
    assert len(segments(directory)) == 2
    writer.close()


def test_closing_on_a_full_disk_is_told_and_does_not_raise(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = SpoolWriter(directory, FINGERPRINT, LIMIT)
    writer.append(make_records(1))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        writer.close()

    assert "without its closing frame" in caplog.text
