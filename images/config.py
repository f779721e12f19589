"""What an image says about running it: the OCI image configuration and the accounts its files name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from images.errors import LayoutError

_MAX_ITEMS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One line of ``/etc/passwd``."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One line of ``/etc/group``."""

    name: str
    gid: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """The users and groups that the image's files name, in file order (the first match counts)."""

    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()

    def user(self, name: str) -> User | None:
        """The first user of that name."""
        return next((user for user in self.users if user.name == name), None)

    def user_by_uid(self, uid: int) -> User | None:
        """The first user with that id."""
        return next((user for user in self.users if user.uid == uid), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerityLayer:
    """One layer in tardev form: the name by which the snapshotter knows it, and its dm-verity root hash, both hex."""

    name: str
    root_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """How to run an image.

    ``accounts`` is None when nobody has read the layers, ``layers`` when nobody asked for their root hashes.
    """

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    accounts: Accounts | None = None
    layers: tuple[VerityLayer, ...] | None = None


def parse_config(document: Mapping[str, object], where: str) -> tuple[ImageConfig, str, tuple[str, ...]]:
    """Read an OCI image configuration: how to run it, its platform (``os/architecture``), its layers' diff ids.

    Raises:
        LayoutError: a field has another type than the specification gives it.
    """
    platform = f"{_text(document, 'os', where)}/{_text(document, 'architecture', where)}"
    rootfs = _table(document, "rootfs", where)
    if rootfs.get("type") != "layers":
        raise LayoutError(f"{where}: rootfs.type is {rootfs.get('type')!r}, wanted 'layers'")
    config = _table(document, "config", where)
    for entry in (env := _texts(config, "Env", where)):
        if "=" not in entry:
            raise LayoutError(f"{where}: config.Env holds {entry!r}, wanted NAME=value")
    image = ImageConfig(
        entrypoint=_texts(config, "Entrypoint", where),
        cmd=_texts(config, "Cmd", where),
        env=env,
        user=_text(config, "User", where),
        working_dir=_text(config, "WorkingDir", where),
        volumes=tuple(sorted(_table(config, "Volumes", where))),
    )
    return image, platform, _texts(rootfs, "diff_ids", where)


def parse_passwd(raw: bytes) -> tuple[User, ...]:
    """Read ``/etc/passwd`` as a C library would: lines that do not fit are no users."""
    return tuple(
        User(name=fields[0], uid=int(fields[2]), gid=int(fields[3]))
        for fields in _account_lines(raw)
        if len(fields) >= 4 and _is_id(fields[2]) and _is_id(fields[3])
    )


def parse_group(raw: bytes) -> tuple[Group, ...]:
    """Read ``/etc/group``; lines that do not fit are no groups."""
    return tuple(
        Group(name=fields[0], gid=int(fields[2]), members=tuple(n for n in "".join(fields[3:4]).split(",") if n))
        for fields in _account_lines(raw)
        if len(fields) >= 3 and _is_id(fields[2])
    )


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def _account_lines(raw: bytes) -> list[list[str]]:
    lines = raw.decode("utf-8", "replace").split("\n")
    return [line.strip().split(":") for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _table(document: Mapping[str, object], name: str, where: str) -> Mapping[str, object]:
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise LayoutError(f"{where}: {name} is {type(value).__name__}, wanted an object")
    return cast("Mapping[str, object]", value)


def _text(document: Mapping[str, object], name: str, where: str) -> str:
    value = document.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise LayoutError(f"{where}: {name} is {type(value).__name__}, wanted a string")
    return value


def _texts(document: Mapping[str, object], name: str, where: str) -> tuple[str, ...]:
    value = document.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise LayoutError(f"{where}: {name} is not a list of strings")
    if len(value) > _MAX_ITEMS:
        raise LayoutError(f"{where}: {name} has {len(value)} items, at most {_MAX_ITEMS} are read")
    return tuple(cast("Sequence[str]", value))
