"""Refusals as RFC 9457 problem documents: how they are written, read and shown; which route refuses what is not here.

`code` is stable and append-only; a reader tolerates codes and fields that it does not know (RFC 9457 section 3.2).
"""

from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from wire.json import MessageError, check_depth

CONTENT_TYPE = "application/problem+json"
MAX_PROBLEM = 16_384
_TYPE_BASE = "https://contrast.invalid/problems/"


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One refusal: what was seen, what was wanted, what to do."""

    type: Annotated[str, Meta(max_length=256)]
    title: Annotated[str, Meta(max_length=256)]
    status: Annotated[int, Meta(ge=100, le=599)]
    code: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$", max_length=64)]
    detail: Annotated[str, Meta(max_length=4096)]
    seen: Annotated[str, Meta(max_length=1024)] | None = None
    wanted: Annotated[str, Meta(max_length=1024)] | None = None
    action: Annotated[str, Meta(max_length=1024)] | None = None

    def bytes(self) -> bytes:
        """The document's JSON bytes, sent as `CONTENT_TYPE`."""
        return msgspec.json.encode(self)


def make_problem(
    code: str,
    status: HTTPStatus,
    detail: str,
    *,
    title: str | None = None,
    seen: str | None = None,
    wanted: str | None = None,
    action: str | None = None,
) -> Problem:
    """A problem document; texts that are too long are cut, since a refusal must always be sayable."""
    return Problem(
        type=_TYPE_BASE + code,
        title=_cut(status.phrase if title is None else title, 256),
        status=status.value,
        code=code,
        detail=_cut(detail, 4096),
        seen=None if seen is None else _cut(seen, 1024),
        wanted=None if wanted is None else _cut(wanted, 1024),
        action=None if action is None else _cut(action, 1024),
    )


def parse_problem(raw: bytes) -> Problem:
    """The problem document in *raw*; fields that are unknown here are passed over.

    Raises:
        MessageError: it is none.
    """
    if len(raw) > MAX_PROBLEM:
        raise MessageError(f"a problem document of more than {MAX_PROBLEM} bytes")
    check_depth(raw)
    try:
        return msgspec.json.decode(raw, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"no problem document: {error}") from None


class RemoteError(Exception):
    """The other side could not be used; `code` says why, `action` what to do."""

    code = "remote_failed"


class UnreachableError(RemoteError):
    """No connection, or none that lasted: the address is wrong, nothing listens there, or it is too slow."""

    code = "unreachable"


class RemoteRefusedError(RemoteError):
    """The other side answered, and said no. `problem` is its document, `retry_after_s` what its header asks for."""

    def __init__(self, problem: Problem, *, address: str, retry_after_s: int | None = None) -> None:
        self.problem = problem
        self.address = address
        self.retry_after_s = retry_after_s
        lines = [f"{address} refused ({printable(problem.code)}): {printable(problem.detail or problem.title)}"]
        for label, text in (("seen", problem.seen), ("wanted", problem.wanted), ("what to do", problem.action)):
            if text is not None:
                lines.append(f"  {label}: {printable(text)}")
        super().__init__("\n".join(lines))
        self.code = problem.code

    @property
    def may_pass(self) -> bool:
        """Whether the same request can succeed later (busy, starting, a failure of the server) without a change."""
        return self.problem.status in (408, 425, 429) or self.problem.status >= 500


class UntrustworthyAnswerError(RemoteError):
    """An answer is not what was asked for: another certificate, another shape, too long."""

    code = "untrustworthy_answer"


class WrongPortError(UntrustworthyAnswerError):
    """Something answers there, and it is not the API that was meant; waiting does not mend it."""

    code = "wrong_port"


def printable(text: str) -> str:
    """*text* from a stranger for a terminal or a log: one line, no control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _cut(text: str, length: int) -> str:
    text = text if len(text) <= length else text[: length - 1] + "…"
    return text.encode("utf-8", "replace").decode()  # Half a surrogate pair of a stranger's JSON cannot be written.
