"""Options and words about witnesses' cosignatures, for commands that read a ledger. What counts: `ledger.cosigned`."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from cli.errors import RefusedError, UsageFaultError
from cli.known_heads import read_policy
from cli.options import PATHS
from cli.output import Output
from cli.workspace import read_file
from ledger.cosigned import Asked, Cosigned
from ledger.proof import parse_proof

F = TypeVar("F", bound=Callable[..., object])
_PROOF: Final = b"c2sp.org/tlog-proof@v1\n"
NOT_CHECKED: Final = "witnesses' cosignatures were not checked: name yours with --witness-policy"


def witness_policy_option(function: F) -> F:
    """Add `--witness-policy`."""
    return click.option(
        "--witness-policy",
        "witness_path",
        type=PATHS,
        default=None,
        help="Witnesses (C2SP tlog-policy); a quorum of them must have cosigned the checkpoint.",
    )(function)


def cosigned_option(function: F) -> F:
    """Add `--cosigned`."""
    return click.option(
        "--cosigned",
        "cosigned_paths",
        type=PATHS,
        multiple=True,
        help="A checkpoint or receipt from elsewhere, as a witness shows it: this ledger must extend it (repeatable).",
    )(function)


def read_asked(policy: Path | None, paths: tuple[Path, ...] = ()) -> Asked | None:
    """Return the policy and the checkpoints in these files; None without a policy.

    Raises:
        UsageFaultError: checkpoints are given, and no policy says whose cosignatures count.
        PolicyError, LocalFileError: a file cannot be read.
    """
    if policy is None:
        if paths:
            raise UsageFaultError("--cosigned takes --witness-policy, which says whose cosignatures count")
        return None
    notes = []
    for path in paths:
        raw = read_file(path, what="checkpoint")
        notes.append((str(path), parse_proof(raw).checkpoint_raw.encode() if raw.startswith(_PROOF) else raw))
    return Asked(read_policy(policy), tuple(notes))


def document(cosigned: Cosigned | None) -> dict[str, Any] | None:
    """Return what `--json` shows of cosignatures; None where they were not checked."""
    if cosigned is None:
        return None
    return {
        "quorum": cosigned.quorum,
        "wanted": cosigned.wanted,
        "seen": cosigned.seen,
        "time_s": cosigned.time_s,
        "cosignatures": [
            {
                "witness": each.witness,
                "key": str(each.key),
                "size": each.size,
                "root": each.root.hex(),
                "time_s": each.time_s,
                "source": each.source,
            }
            for each in cosigned.sightings
        ],
        "silent": list(cosigned.silent),
    }


def tell(output: Output, cosigned: Cosigned | None, size: int) -> None:
    """Say which witnesses have seen the ledger of *size* entries, and whether they are a quorum."""
    if cosigned is None:
        output.note(NOT_CHECKED)
        return
    for each in cosigned.sightings:
        entries = "all of it" if each.size == size else f"{each.size} entries"
        output.say(f"witness {each.witness} saw {entries}, by its clock {moment(each.time_s)} ({each.source})")
    for name in cosigned.silent:
        output.say(f"witness {name}: no cosignature")
    output.say(verdict(cosigned, size), style="bold green" if cosigned.quorum else "bold red")


def verdict(cosigned: Cosigned, size: int) -> str:
    """Return the verdict in one line."""
    if not cosigned.wanted:
        return "as witnessed: the policy asks for nobody's cosignature"
    if cosigned.quorum and cosigned.time_s is not None:
        return f"as witnessed: a quorum has seen all {size} entries, as of {moment(cosigned.time_s)}"
    if not cosigned.seen:
        return "as witnessed: NO quorum of the policy has seen this ledger"
    return f"as witnessed: a quorum has seen only the first {cosigned.seen} of {size} entries"


def demand_quorum(cosigned: Cosigned | None, size: int, *, name: str) -> None:
    """Demand that nothing speaks against the ledger called *name*, and that a quorum has seen all of it.

    Raises:
        RefusedError: a witness contradicts it, a line is false, or a quorum is missing.
    """
    if cosigned is None:
        return
    wrong = (*cosigned.contradictions, *cosigned.false)
    if wrong:
        raise RefusedError(f"the ledger of {name} contradicts what witnesses have seen", details=wrong)
    if not cosigned.quorum:
        raise RefusedError(
            f"the ledger of {name} lacks the cosignatures that --witness-policy asks for. A Coordinator asks its "
            "witnesses within a second or two after each change: try again, and look at its log if it stays so",
            details=(verdict(cosigned, size), *(f"witness {each}: no cosignature" for each in cosigned.silent)),
        )


def moment(time_s: int) -> str:
    """Return a witness's time in UTC; what no calendar holds is its number."""
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"second {time_s}"
