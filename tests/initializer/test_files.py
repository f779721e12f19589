"""A reader sees one whole set of files or none, whatever fails and whenever."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from initializer.errors import LocalFaultError
from initializer.files import File, place, prepare

OLD = {"key.pem": File(b"old key", 0o400), "certChain.pem": File(b"old chain"), "workload-secret": File(b"s", 0o400)}
NEW = {"key.pem": File(b"new key", 0o400), "certChain.pem": File(b"new chain"), "mesh-root.pem": File(b"new root")}
CALLS = ("mkdir", "open", "fchmod", "fsync", "symlink", "rename", "replace")


def seen(directory: Path) -> dict[str, bytes]:
    """What a reader finds: visible names that can be opened."""
    return {
        path.name: path.read_bytes()
        for path in directory.iterdir()
        if not path.name.startswith("..") and path.is_file()
    }


def content(files: dict[str, File]) -> dict[str, bytes]:
    return {name: file.content for name, file in files.items()}


def test_a_set_is_placed_with_its_modes(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        place(tmp_path, OLD, label="1")
    finally:
        os.umask(before)
    assert seen(tmp_path) == content(OLD)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o400
    assert stat.S_IMODE((tmp_path / "certChain.pem").stat().st_mode) == 0o444


def test_a_new_set_replaces_the_old_one_whole(tmp_path: Path) -> None:
    place(tmp_path, OLD, label="1")
    place(tmp_path, NEW, label="2")
    assert seen(tmp_path) == content(NEW)
    assert not os.path.lexists(tmp_path / "workload-secret"), "an old secret stays visible"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["..data", "..set-2", *NEW])


def test_a_reader_in_between_sees_one_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key and certificate of two sets would break every handshake of a service that starts at that moment."""
    place(tmp_path, OLD, label="1")
    views: list[dict[str, bytes]] = []

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            views.append(seen(tmp_path))
            result = call(*args, **kwargs)
            views.append(seen(tmp_path))
            return result

        return inner

    for name in ("replace", "symlink", "rename", "fsync", "unlink"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    place(tmp_path, NEW, label="2")
    assert len(views) > 10
    assert all(view in (content(OLD), content(NEW)) for view in views)


@pytest.mark.parametrize("persists", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("first", [True, False], ids=["first set", "renewal"])
def test_a_fault_anywhere_leaves_the_old_set_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool, persists: bool
) -> None:
    """A full disk, at each call to the kernel in turn, before and after it took effect."""
    real = {name: getattr(os, name) for name in CALLS}
    failed = 0
    for position in range(200):
        directory = tmp_path / str(position)
        directory.mkdir()
        if not first:
            place(directory, OLD, label="1")
        count = 0

        def faulty(name: str, position: int = position) -> Callable[..., Any]:
            def inner(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == position + 1:
                    if persists:
                        result = real[name](*args, **kwargs)
                        if name == "open":
                            os.close(result)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return real[name](*args, **kwargs)

            return inner

        for name in CALLS:
            monkeypatch.setattr(os, name, faulty(name))
        try:
            place(directory, NEW, label="2")
            outcome = None
        except LocalFaultError as error:
            outcome = error
        finally:
            monkeypatch.undo()
        old = {} if first else content(OLD)
        if outcome is None:
            assert seen(directory) == content(NEW)
            if count <= position:
                break
        else:
            failed += 1
            assert "No space left" in str(outcome)
            assert seen(directory) in ((old, content(NEW)) if persists else (old,))
            place(directory, NEW, label="3")
            assert seen(directory) == content(NEW), "the next try does not mend it"
    else:
        pytest.fail("the set was never placed without a fault")
    assert failed > 10


def test_a_directory_that_cannot_be_written_is_found_before_anything_is_asked_for(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(LocalFaultError, match="CONTRAST_TLS_DIR"):
        prepare(blocked / "tls")
    with pytest.raises(LocalFaultError):
        prepare(blocked)


def test_a_read_only_file_system_is_a_local_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LocalFaultError, match="Read-only file system"):
        prepare(tmp_path)


def test_preparing_makes_the_directory_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    prepare(tmp_path / "contrast" / "tls-config")
    prepare(tmp_path / "contrast" / "tls-config")
    assert list((tmp_path / "contrast" / "tls-config").iterdir()) == []


def test_files_of_others_are_neither_replaced_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    place(tmp_path, OLD, label="1")
    place(tmp_path, NEW, label="2")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "mesh-root.pem").write_text("mine")
    with pytest.raises(LocalFaultError, match="not made by the Initializer"):
        place(other, NEW, label="1")
    assert seen(other) == {"mesh-root.pem": b"mine"}


@pytest.mark.parametrize("name", ["", "..data", "a/b", "../x"])
def test_a_name_that_leaves_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        place(tmp_path, {name: File(b"")}, label="1")


def test_a_secret_does_not_show_when_a_file_is_printed() -> None:
    assert "secret" not in repr(File(b"secret"))
