"""Text of strangers in a page: escaped, and what could steer a reader's eye shown as what it is. Knows no ledger."""

import html
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def esc(text: object) -> str:
    r"""*text* for a page: markup escaped, control and direction characters shown as ``\u202e``."""
    shown = str(text)
    if not (shown.isascii() and shown.isprintable()):
        shown = "".join(_seen(char) if unicodedata.category(char) in _STEERING else char for char in shown)
    return html.escape(shown, quote=True)


def mono(text: object) -> str:
    """A digest or name in a fixed face, all of it."""
    return f"<code>{esc(text)}</code>"


def brief(digest: bytes) -> str:
    """The start of a digest; the whole of it shows when pointed at."""
    return f'<code class="brief" title="{digest.hex()}">{digest.hex()[:12]}…</code>'


def when(time_ms: int) -> str:
    """A moment in UTC, to the second; what no calendar holds is shown as its number."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """A table; cells are markup already. *numeric* columns stand to the right."""
    head = "".join(f"<th{_side(at, numeric)}>{esc(name)}</th>" for at, name in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(f"<td{_side(at, numeric)}>{cell}</td>" for at, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    if not body:
        return '<p class="none">none</p>'
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _side(at: int, numeric: Sequence[int]) -> str:
    return ' class="n"' if at in numeric else ""


def _seen(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"


def used_at(recoveries: int) -> str:
    """Return how often a seed share was used, in words."""
    return (
        "used at no recovery" if not recoveries else f"used at {recoveries} recover{'y' if recoveries == 1 else 'ies'}"
    )
