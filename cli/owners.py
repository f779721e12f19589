"""The owners that `generate` writes into the manifest: lists kept, keys added, keys made; nothing is written here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.keys import (
    new_seedshare_owner_key,
    new_workload_owner_key,
    pkcs1,
    seedshare_owner_public,
    workload_owner_public,
)
from cli.workspace import KEY_MODE, FileChange, read_file
from manifest.authorise import key_digest

_MAX_PEM: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """One list of the manifest, the keys to create for it, and what a person should know."""

    entries: tuple[bytes, ...]
    created: tuple[FileChange, ...] = ()
    notes: tuple[str, ...] = ()


def workload_owners(existing: Sequence[bytes] | None, added: Sequence[Path], default: Path, *, disable: bool) -> Owners:
    """Return `WorkloadOwnerKeyDigests`.

    Args:
        existing: the list of the manifest that is there; None where there is none.
        added: files whose keys are added to it.
        default: the key of a new manifest, made where it is absent.
        disable: no owner at all, so no update ever.
    """
    if disable:
        return Owners(entries=(), notes=("updates are disabled: after `contrast set` no other manifest can follow",))
    return _owners(existing, added, default, new=new_workload_owner_key, entry=_workload_entry, what="workload owner")


def seedshare_owners(existing: Sequence[bytes] | None, added: Sequence[Path], default: Path) -> Owners:
    """Return `SeedshareOwnerPubKeys`; arguments as for `workload_owners`."""
    return _owners(
        existing, added, default, new=new_seedshare_owner_key, entry=_seedshare_entry, what="seed share owner"
    )


def _owners(
    existing: Sequence[bytes] | None,
    added: Sequence[Path],
    default: Path,
    *,
    new: Callable[[], bytes],
    entry: Callable[[bytes, str], bytes],
    what: str,
) -> Owners:
    if existing is not None and not added:
        notes: tuple[str, ...] = ()
        if default.exists() and _entry_of(default, entry, what) not in existing:
            notes = (f"{default} is not among the {what}s of the manifest, which stay as they are",)
        return Owners(entries=tuple(existing), notes=notes)
    paths = tuple(added) or (default,)
    if len(paths) == 1 and not paths[0].exists():
        pem = new()
        created = (FileChange(path=paths[0], before=None, after=pem, mode=KEY_MODE),)
        return Owners(entries=(*(existing or ()), entry(pem, str(paths[0]))), created=created)
    entries = [_entry_of(path, entry, what) for path in paths]
    return Owners(entries=tuple(dict.fromkeys((*(existing or ()), *entries))))


def _entry_of(path: Path, entry: Callable[[bytes, str], bytes], what: str) -> bytes:
    return entry(read_file(path, what=f"{what} key", limit=_MAX_PEM), str(path))


def _workload_entry(pem: bytes, name: str) -> bytes:
    return key_digest(workload_owner_public(pem, name=name))


def _seedshare_entry(pem: bytes, name: str) -> bytes:
    return pkcs1(seedshare_owner_public(pem, name=name))
