"""Trust policies (c2sp.org/tlog-policy): which logs, which witnesses, which of them suffice. Asks and signs nothing.

A policy is lines of ``log``, ``witness``, ``group`` (k of n) and one ``quorum``. Names are opaque octets: they are kept
as text in which each octet stands for itself (latin-1), and shown as UTF-8 only in messages.

The time of a cosignature is one witness's clock. A set of them speaks for a moment only as far as a whole quorum does:
see Policy.time_of().
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from ledger.errors import NoteError
from ledger.note import KeyType, VerifierKey

MAX_POLICY_BYTES: Final = 1_000_000
MAX_LINES: Final = 256  # of each kind; the specification asks for 32 at least
_LOG_TYPES: Final = frozenset({KeyType.ED25519, KeyType.ECDSA, KeyType.RFC6962, KeyType.MLDSA44_COSIGNATURE})
_WITNESS_TYPES: Final = frozenset({KeyType.ED25519_COSIGNATURE, KeyType.MLDSA44_COSIGNATURE})


class PolicyError(NoteError):
    """A policy file is malformed; the message names the line, what was seen and what was wanted."""

    code = "bad_witness_policy"


@dataclass(frozen=True, slots=True)
class LogKey:
    """A log: its key's name is the origin of its checkpoints."""

    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness: *name* is known in this policy only, the key's name stands in signature lines."""

    name: str
    key: VerifierKey
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """At least *threshold* of *members* must have witnessed."""

    name: str
    threshold: int
    members: tuple["Member", ...]


Member: TypeAlias = Witness | Group


@dataclass(frozen=True, slots=True)
class Policy:
    """Logs and witnesses by name, and the quorum; None asks for no cosignature at all."""

    logs: tuple[LogKey, ...]
    witnesses: tuple[Witness, ...]
    quorum: Member | None

    def satisfied_by(self, names: Collection[str]) -> bool:
        """Whether the witnesses of these *names* are a quorum."""
        return self.quorum is None or _witnessed(self.quorum, frozenset(names))

    def time_of(self, times: Mapping[str, int]) -> int | None:
        """The latest moment that a whole quorum vouches for: the lowest time of the quorum with the highest times.

        Args:
            times: Name of a witness -> the time (any unit) of its cosignature, which was verified.

        Returns:
            None where *times* hold no quorum, or where the policy asks for none: then nobody's clock counts.
        """
        if self.quorum is None:
            return None
        later: set[str] = set()
        for name, time in sorted(times.items(), key=lambda item: item[1], reverse=True):
            later.add(name)
            if _witnessed(self.quorum, later):
                return time
        return None


def parse_policy(raw: bytes) -> Policy:
    """Read a policy file. Raises PolicyError naming the line."""
    if len(raw) > MAX_POLICY_BYTES:
        raise PolicyError(f"the policy has {len(raw)} bytes, at most {MAX_POLICY_BYTES} are read")
    reader = _Reader()
    if raw and not raw.endswith(b"\n"):
        raise PolicyError("the last line of the policy does not end with a newline: the file may be cut off")
    for number, line in enumerate(raw.split(b"\n")[:-1], 1):
        if any((byte < 0x20 and byte != 0x09) or byte == 0x7F for byte in line):
            raise PolicyError(f"line {number} of the policy has a control character (CRLF line ends?)")
        words = line.replace(b"\t", b" ").split(b" ")
        items = [word.decode("latin-1") for word in words if word]
        if not items or items[0].startswith("#"):
            continue
        try:
            reader.take(items)
        except NoteError as error:
            raise PolicyError(f"line {number} of the policy: {error}") from None
    return reader.policy()


class _Reader:
    """What the lines so far have defined."""

    def __init__(self) -> None:
        self._logs: list[LogKey] = []
        self._members: dict[str, Member] = {}
        self._grouped: set[str] = set()
        self._publics: dict[str, set[bytes]] = {"log": set(), "witness": set()}
        self._quorum: Member | None = None
        self._quorum_seen = False

    def take(self, items: list[str]) -> None:
        match items:
            case ["log", line, *url] if len(url) <= 1:
                self._log(line, "".join(url))
            case ["witness", name, line, *url] if len(url) <= 1:
                self._define(Witness(name, self._key("witness", line, _WITNESS_TYPES), "".join(url)))
            case ["group", name, threshold, *members]:
                self._define(self._group(name, threshold, members))
            case ["quorum", name]:
                self._set_quorum(name)
            case ["log" | "witness" | "group" | "quorum" as kind, *_]:
                raise PolicyError(f"a {kind} line has another number of words than this one")
            case _:
                raise PolicyError(f"{_shown(items[0])} begins no line; log, witness, group or quorum does")

    def policy(self) -> Policy:
        if not self._quorum_seen:
            raise PolicyError("the policy has no quorum line: write `quorum none` if no cosignature is wanted")
        witnesses = tuple(member for member in self._members.values() if isinstance(member, Witness))
        return Policy(tuple(self._logs), witnesses, self._quorum)

    def _log(self, line: str, url: str) -> None:
        if len(self._logs) == MAX_LINES:
            raise PolicyError(f"there are more than {MAX_LINES} logs")
        self._logs.append(LogKey(self._key("log", line, _LOG_TYPES), url))

    def _key(self, kind: str, line: str, types: frozenset[KeyType]) -> VerifierKey:
        try:
            text = line.encode("latin-1").decode()
        except UnicodeDecodeError:
            raise PolicyError("the verifier key is not UTF-8") from None
        key = VerifierKey.parse(text)
        if key.type not in types:
            raise PolicyError(f"the key of {key.name} is of type {key.type:#04x}, which is none of a {kind}")
        if key.public in self._publics[kind]:
            raise PolicyError(
                f"the key of {key.name} stands on another {kind} line already, perhaps under another name"
            )
        self._publics[kind].add(key.public)
        return key

    def _define(self, member: Member) -> None:
        if member.name == "none" or member.name in self._members:
            raise PolicyError(f"the name {_shown(member.name)} is taken")
        if len(self._members) == 2 * MAX_LINES:
            raise PolicyError(f"there are more than {2 * MAX_LINES} witnesses and groups")
        self._members[member.name] = member

    def _group(self, name: str, threshold: str, names: list[str]) -> Group:
        if not names:
            raise PolicyError(f"the group {_shown(name)} has no member")
        count = len(names)
        match threshold:
            case "any":
                least = 1
            case "all":
                least = count
            case _:
                if not (threshold.isascii() and threshold.isdigit() and len(threshold) <= 4 and threshold[0] != "0"):
                    raise PolicyError("the threshold of a group is any, all or a decimal number from 1")
                least = int(threshold)
        if least > count:
            raise PolicyError(f"the group {_shown(name)} wants {least} of its {count} members")
        members = []
        for each in names:
            if each in self._grouped:
                raise PolicyError(f"{_shown(each)} is a member of a group already: nobody counts twice")
            members.append(self._known(each))
            self._grouped.add(each)
        return Group(name, least, tuple(members))

    def _set_quorum(self, name: str) -> None:
        if self._quorum_seen:
            raise PolicyError("this is the second quorum line")
        self._quorum = None if name == "none" else self._known(name)
        self._quorum_seen = True

    def _known(self, name: str) -> Member:
        member = self._members.get(name)
        if member is None:
            raise PolicyError(f"{_shown(name)} is not defined on a line before")
        return member


def _witnessed(member: Member, names: Collection[str]) -> bool:
    if isinstance(member, Witness):
        return member.name in names
    return sum(_witnessed(each, names) for each in member.members) >= member.threshold


def shown_name(name: str) -> str:
    """A name of the policy as people wrote it."""
    return name.encode("latin-1").decode("utf-8", "replace")


def _shown(name: str) -> str:
    return repr(shown_name(name)[:80])
