"""Files are written all or none, keys are private from their first byte, and nothing equal is touched."""

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from cli.errors import LocalFileError, RefusedError
from cli.workspace import FileChange, apply_changes, change, read_file, replace_folder, write_atomic


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fresh(path: Path, data: bytes, mode: int = 0o644) -> FileChange:
    return FileChange(path=path, before=path.read_bytes() if path.exists() else None, after=data, mode=mode)


def test_an_equal_file_is_not_touched(tmp_path: Path) -> None:
    """A second run would change times and wake every build tool."""
    target = tmp_path / "a"
    target.write_bytes(b"same")
    os.utime(target, ns=(1, 1))
    write_atomic(target, b"same")
    assert target.stat().st_mtime_ns == 1


def test_a_key_is_private_from_its_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key readable for an instant is a key read."""
    seen: list[int] = []
    real = os.fchmod

    def spy(descriptor: int, mode: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        real(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", spy)
    os.umask(0)
    write_atomic(tmp_path / "key", b"secret", mode=0o600)
    assert seen == [0o600]
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_an_edited_file_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    """A linked file in a workspace would become a copy, a private one public."""
    real = tmp_path / "real.yml"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link = tmp_path / "link.yml"
    link.symlink_to(real)
    apply_changes([fresh(link, b"new")])
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_a_failing_exchange_puts_everything_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """Half of the YAML with a manifest of the other half would lock the pods out."""
    (tmp_path / "a.yml").write_bytes(b"a")
    (tmp_path / "b.yml").write_bytes(b"b")
    before = tree(tmp_path)
    changes = [
        fresh(tmp_path / "a.yml", b"A"),
        fresh(tmp_path / "new.json", b"N"),
        fresh(tmp_path / "b.yml", b"B"),
    ]
    real = Path.replace
    calls = iter(range(100))

    def replace(self: Path, target: Path) -> Path:
        if self.suffix == ".new" and next(calls) == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(LocalFileError, match="as it was before"):
        apply_changes(changes)
    assert tree(tmp_path) == before


def test_a_full_disk_while_staging_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left-over temporary files hold keys."""
    real = os.fsync
    calls = iter(range(100))

    def fsync(descriptor: int) -> None:
        if next(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(LocalFileError, match="No space left"):
        apply_changes([fresh(tmp_path / "a", b"a"), fresh(tmp_path / "b", b"b")])
    assert tree(tmp_path) == {}


def test_a_file_edited_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """A person's save in another window would be lost."""
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"a")
    second.write_bytes(b"b")
    changes = [fresh(first, b"A"), fresh(second, b"B")]
    second.write_bytes(b"edited")
    with pytest.raises(RefusedError, match="someone else"):
        apply_changes(changes)
    assert tree(tmp_path) == {"a": b"a", "b": b"edited"}


def test_an_unwritable_folder_is_said_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the name nobody knows what to repair."""

    def refuse(path: str | Path, flags: int, mode: int = 0o777) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LocalFileError, match=r"cannot write .*verify.*Permission denied"):
        write_atomic(tmp_path / "verify", b"")


def test_change_says_nothing_where_nothing_changes(tmp_path: Path) -> None:
    """A plan that lists equal files makes --check fail for ever."""
    (tmp_path / "a").write_bytes(b"1")
    assert change(tmp_path / "a", b"1") == ()
    assert len(change(tmp_path / "a", b"2")) == 1
    assert len(change(tmp_path / "b", b"2")) == 1


def test_a_folder_is_exchanged_whole(tmp_path: Path) -> None:
    """A file of an earlier verification beside those of this one would be taken for verified."""
    old = tmp_path / "verify"
    old.mkdir()
    (old / "stale.pem").write_bytes(b"x")
    new = tmp_path / ".fresh"
    (new / "ledger").mkdir(parents=True)
    (new / "ledger" / "checkpoint").write_bytes(b"y")
    replace_folder(old, new)
    assert tree(tmp_path) == {"verify/ledger/checkpoint": b"y"}


def test_a_folder_that_cannot_be_exchanged_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing write must not cost the last good result."""
    old = tmp_path / "verify"
    old.mkdir()
    (old / "a").write_bytes(b"x")
    new = tmp_path / ".fresh"
    new.mkdir()
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self == new:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(LocalFileError, match="as it was before"):
        replace_folder(old, new)
    assert (old / "a").read_bytes() == b"x"


def test_reading_is_bounded_and_says_what_was_read(tmp_path: Path) -> None:
    """A file of gigabytes named by mistake would end in a killed process."""
    (tmp_path / "big").write_bytes(b"12345")
    with pytest.raises(RefusedError, match="larger than 4 bytes"):
        read_file(tmp_path / "big", what="manifest", limit=4)
    with pytest.raises(LocalFileError, match=r"request .*none: no such file$"):
        read_file(tmp_path / "none", what="request")


@pytest.mark.parametrize(
    ("what", "command"),
    [
        ("manifest", "contrast generate"),
        ("seed shares", "contrast set"),
        ("seed share owner key", "contrast generate"),
        ("reference values", "contrast dev init"),
        ("verifier keys", "contrast verify"),
    ],
)
def test_a_missing_file_of_the_workspace_is_told_with_the_command_that_makes_it(
    tmp_path: Path, what: str, command: str
) -> None:
    """`no such file` alone sends a newcomer back to the manual."""
    with pytest.raises(LocalFileError, match=rf"no such file \(.*`{command}`"):
        read_file(tmp_path / "none", what=what)


def test_a_file_that_cannot_be_written_is_told_by_its_own_name(tmp_path: Path) -> None:
    """Not by the name of a temporary file that nobody typed."""
    (tmp_path / "blocked").write_text("")
    with pytest.raises(LocalFileError, match=r"cannot write .*/blocked/page\.html: ") as caught:
        write_atomic(tmp_path / "blocked" / "page.html", b"x")
    assert ".new" not in str(caught.value)


@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_what_may_never_end_is_not_read(tmp_path: Path, kind: str) -> None:
    """A command that waits for the other end of a FIFO hangs for ever, and says nothing."""
    path = {"fifo": tmp_path / "fifo", "device": Path("/dev/zero"), "folder": tmp_path}[kind]
    if kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(LocalFileError, match="directory" if kind == "folder" else "wanted a regular file"):
        read_file(path, what="report")


def test_a_pipe_that_was_handed_over_is_read_to_its_end(tmp_path: Path) -> None:
    """`<(command)` of a shell, whose writer may be slower than we are."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as other:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            for piece in (b"sl", b"ow"):
                time.sleep(0.05)
                os.write(other.fileno(), piece)
            os._exit(0)
    assert read_file(Path(f"/dev/fd/{reading}"), what="report") == b"slow"
    os.waitpid(pid, 0)
    os.close(reading)
    assert read_file(Path(os.devnull), what="report") == b""
